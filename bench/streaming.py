"""One stream at full speed: the CPU time of each contender per token.

`python -m bench.streaming CONTENDER BASE_URL TOKENS REPETITIONS` measures one in the environment that it needs.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass

from bench.contender import GPT_OSS, Wire
from bench.contenders import STREAMING, find_contender
from bench.isolated import BrokenRunError, run_in_its_environment
from bench.recorded_chunks import scale_chat, scale_completions
from bench.recorded_stream import RecordedStream, scale_recording
from bench.replay_server import start_replay_server


@dataclass(frozen=True)
class Cost:
    """The best of the repetitions: whatever else the machine does only ever adds to it."""

    contender: str
    cpu_us_per_token: float
    tokens_per_second: float
    wire: Wire = "responses"


def measure_streaming(tokens: int, repetitions: int) -> list[Cost]:
    """Every contender that is installed, one after the other, on the same stream."""
    with start_replay_server(tokens) as base_url:
        asked = base_url, str(tokens), str(repetitions)
        return [Cost(**run_in_its_environment(one, "bench.streaming", *asked)) for one in STREAMING if one.installed]


async def _measure_one(name: str, base_url: str, tokens: int, repetitions: int) -> Cost:
    contender, pieces = find_contender(name), list[str]()
    stream = _expected(contender.wire, tokens)
    cpu, wall = list[float](), list[float]()
    async with contender.open(base_url, pieces.append) as ask:
        await ask()
        for _ in range(repetitions):
            pieces.clear()
            cpu_before, wall_before = time.process_time(), time.perf_counter()
            await ask()
            cpu.append(time.process_time() - cpu_before)
            wall.append(time.perf_counter() - wall_before)
            if "".join(pieces).strip() not in (stream.answer.strip(), stream.raw.strip()):
                raise BrokenRunError(f"{name}: {len(''.join(pieces))} of {len(stream.answer)} characters came")
    return Cost(name, min(cpu) / stream.tokens * 1e6, stream.tokens / min(wall), contender.wire)


def _expected(wire: Wire, tokens: int) -> RecordedStream:
    match wire:
        case "responses":
            return scale_recording(tokens)
        case "chat" | "chat with ids" | "chat with logprobs":
            return scale_chat(tokens)
        case "completions":
            return scale_completions(tokens)
        case "completions of gpt-oss":
            return scale_completions(tokens, GPT_OSS)


if __name__ == "__main__":
    contender, url, length, times = sys.argv[1:]
    print(json.dumps(asdict(asyncio.run(_measure_one(contender, url, int(length), int(times))))))
