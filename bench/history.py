"""The cost of one call by history length, and how long it blocks the event loop. Replies have one token.

`python -m bench.history CONTENDER BASE_URL LENGTHS` measures one contender in the environment that it needs.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from bench.contender import Ask
from bench.contenders import HISTORY, OURS, SDK, find_contender
from bench.conversation import conversation, response_items
from bench.isolated import BrokenRunError, run_in_its_environment, run_isolated
from bench.recorded_stream import scale_recording
from bench.replay_server import received_bytes, start_replay_server


@dataclass(frozen=True)
class Lengths:
    """What to measure: the history lengths, and the seconds and minimum number of calls for each."""

    messages: tuple[int, ...]
    blocking: tuple[tuple[int, int], ...]
    """Messages, and how many characters each one has at least."""
    seconds: float
    calls: int


@dataclass(frozen=True)
class CallCost:
    """The best of the calls: whatever else the machine does only ever adds to it."""

    contender: str
    messages: int
    cpu_ms: float


@dataclass(frozen=True)
class Blocking:
    """How long one call blocks the event loop, in the best of the calls."""

    contender: str
    messages: int
    body_bytes: int
    longest_ms: float


def measure_history(lengths: Lengths) -> list[CallCost]:
    """Every contender that is installed, one after the other, on the same histories."""
    with start_replay_server(1) as base_url:
        asked = base_url, json.dumps(asdict(lengths))
        runs = [run_in_its_environment(one, "bench.history", *asked) for one in HISTORY if one.installed]
        return [CallCost(**cost) for costs in runs for cost in costs]


def measure_blocking(lengths: Lengths) -> list[Blocking]:
    with start_replay_server(1) as base_url:
        return [
            run_isolated(_blocking, one.name, base_url, messages, characters, lengths)
            for one in (OURS, SDK)
            for messages, characters in lengths.blocking
        ]


async def _call_costs(name: str, base_url: str, lengths: Lengths) -> list[CallCost]:
    return [CallCost(name, messages, await _cpu_ms(name, base_url, messages, lengths)) for messages in lengths.messages]


async def _cpu_ms(name: str, base_url: str, messages: int, lengths: Lengths) -> float:
    steps, pieces, cpu = conversation(messages), list[str](), list[float]()
    async with find_contender(name).open(base_url, pieces.append, steps) as ask:
        await _check_call(name, ask, pieces)
        _check_that_all_was_sent(name, received_bytes(base_url), len(str(response_items(steps))))
        gc.collect()  # garbage of the opening is not counted for the calls; their own garbage is
        until = time.perf_counter() + lengths.seconds
        while len(cpu) < lengths.calls or time.perf_counter() < until:
            began = time.process_time()
            await ask()
            cpu.append(time.process_time() - began)
    return min(cpu) * 1000


def _blocking(name: str, base_url: str, messages: int, characters: int, lengths: Lengths) -> Blocking:
    return asyncio.run(_longest_block(name, base_url, messages, characters, lengths))


async def _longest_block(name: str, base_url: str, messages: int, characters: int, lengths: Lengths) -> Blocking:
    pieces, longest = list[str](), list[float]()
    async with find_contender(name).open(base_url, pieces.append, conversation(messages, characters)) as ask:
        await _check_call(name, ask, pieces)
        gc.collect()
        until = time.perf_counter() + lengths.seconds
        while len(longest) < lengths.calls or time.perf_counter() < until:
            longest.append(await _longest_gap(ask))
    return Blocking(name, messages, received_bytes(base_url), min(longest) * 1000)


async def _longest_gap(ask: Ask) -> float:
    """The longest time in seconds between two steps of a task that only yields."""
    gaps = [0.0]

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps[0] = max(gaps[0], now - last)
            last = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await ask()
    await asyncio.sleep(0)
    ticking.cancel()
    with suppress(asyncio.CancelledError):
        await ticking
    return gaps[0]


async def _check_call(name: str, ask: Ask, pieces: Sequence[str]) -> None:
    """A warm-up call that opens connections and loads modules, and checks that the token arrives."""
    await ask()
    if "".join(pieces).strip().removeprefix("<think></think>") != scale_recording(1).answer:
        raise BrokenRunError(f"{name}: {''.join(pieces)!r} came instead of {scale_recording(1).answer!r}")


def _check_that_all_was_sent(name: str, sent: int, whole: int) -> None:
    """Chat clients may omit the reasoning, but nothing else."""
    if sent < whole / 2:
        raise BrokenRunError(f"{name}: sent {sent} bytes of a history of about {whole}")


if __name__ == "__main__":
    contender, url, lengths = sys.argv[1:]
    print(
        json.dumps([asdict(cost) for cost in asyncio.run(_call_costs(contender, url, Lengths(**json.loads(lengths))))])
    )
