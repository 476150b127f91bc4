"""Many streams in one process: tokens per second at full speed, and token delay at a steady pace."""

import asyncio
import time
from dataclasses import dataclass

from bench.contenders import OURS, SDK, find_contender
from bench.isolated import BrokenRunError, run_isolated
from bench.recorded_stream import STAMP, scale_recording
from bench.replay_server import start_replay_server

HUMAN_PACE = 50.0
"""Tokens a second: a large model on a good GPU, faster than anyone reads."""

LONGEST = 20_000
"""Tokens of one stream, however few there are."""


@dataclass(frozen=True)
class Sweep:
    """What to measure: numbers of streams, tokens of each measurement at full speed, seconds of each at human speed."""

    streams: tuple[int, ...]
    tokens: int
    sdk_tokens: int
    seconds: float


@dataclass(frozen=True)
class Crowd:
    """The results of one contender with this number of concurrent streams."""

    contender: str
    streams: int
    tokens_per_second: float
    """At full speed, all streams together."""
    late_ms_p99: float
    """At human speed, with all streams open: from sending a token to showing it."""
    pieces_per_token: float
    """At human speed: how many hook events, or events of the SDK, there were for a token."""


def measure_concurrency(sweep: Sweep) -> list[Crowd]:
    sizes = [(OURS.name, sweep.tokens), (SDK.name, sweep.sdk_tokens)]
    return [
        _measure_streams(name, streams, tokens, sweep.seconds) for name, tokens in sizes for streams in sweep.streams
    ]


def _measure_streams(name: str, streams: int, tokens: int, seconds: float) -> Crowd:
    each = min(LONGEST, max(100, tokens // streams))
    with start_replay_server(each) as base_url:
        rate = run_isolated(_tokens_per_second, name, base_url, streams, each)
    steady = round(HUMAN_PACE * seconds)
    with start_replay_server(steady, HUMAN_PACE) as base_url:
        late, pieces = run_isolated(_late, name, base_url, streams, steady)
    return Crowd(name, streams, rate, late * 1000, pieces)


def _tokens_per_second(name: str, base_url: str, streams: int, tokens: int) -> float:
    return asyncio.run(_at_full_speed(name, base_url, streams, tokens))


async def _at_full_speed(name: str, base_url: str, streams: int, tokens: int) -> float:
    stream, lengths, walls = scale_recording(tokens), list[int](), list[float]()
    async with find_contender(name).open(base_url, lambda text: lengths.append(len(text))) as ask:
        await ask()
        for _ in range(3):
            lengths.clear()
            began = time.perf_counter()
            await asyncio.gather(*(ask() for _ in range(streams)))
            walls.append(time.perf_counter() - began)
            if sum(lengths) != streams * len(stream.answer):
                raise BrokenRunError(f"{name}: {sum(lengths)} of {streams * len(stream.answer)} characters came")
    return streams * stream.tokens / min(walls)


def _late(name: str, base_url: str, streams: int, tokens: int) -> tuple[float, float]:
    return asyncio.run(_at_human_speed(name, base_url, streams, tokens))


async def _at_human_speed(name: str, base_url: str, streams: int, tokens: int) -> tuple[float, float]:
    """The 99th percentile of the delays in seconds, and the number of pieces per token."""
    sent, late, pieces = list[float](), list[float](), list[float]()

    def on_text(text: str) -> None:
        now, stamps = time.monotonic(), [float(stamp) for stamp in text.split()]
        pieces.append(stamps[-1])
        sent.extend(stamps)
        late.extend(now - stamp for stamp in stamps)

    async with find_contender(name).open(base_url, on_text) as ask:
        await asyncio.gather(*(ask() for _ in range(streams)))
    expected = streams * len(scale_recording(tokens, stamped=True).answer) // len(STAMP)
    if len(sent) != expected:
        raise BrokenRunError(f"{name}: {len(sent)} of {expected} tokens came")
    steady = (min(sent) + max(sent)) / 2  # in the first half the client is still busy with opening streams
    delays = sorted(delay for stamp, delay in zip(sent, late, strict=True) if stamp >= steady)
    return delays[len(delays) * 99 // 100], sum(stamp >= steady for stamp in pieces) / len(delays)
