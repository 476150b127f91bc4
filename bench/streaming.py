"""One stream at full speed: the CPU time of each contender per token."""

import asyncio
import time
from dataclasses import dataclass

from bench.contenders import STREAMING, find_contender
from bench.isolated import BrokenRunError, run_isolated
from bench.recorded_stream import scale_recording
from bench.replay_server import start_replay_server


@dataclass(frozen=True)
class Cost:
    """The best of the repetitions: whatever else the machine does only ever adds to it."""

    contender: str
    cpu_us_per_token: float
    tokens_per_second: float


def measure_streaming(tokens: int, repetitions: int) -> list[Cost]:
    """Every contender that is installed, one after the other, on the same stream."""
    with start_replay_server(tokens) as base_url:
        return [run_isolated(_cost, one.name, base_url, tokens, repetitions) for one in STREAMING if one.installed]


def _cost(name: str, base_url: str, tokens: int, repetitions: int) -> Cost:
    return asyncio.run(_measure_one(name, base_url, tokens, repetitions))


async def _measure_one(name: str, base_url: str, tokens: int, repetitions: int) -> Cost:
    stream, pieces = scale_recording(tokens), list[str]()
    cpu, wall = list[float](), list[float]()
    async with find_contender(name).open(base_url, pieces.append) as ask:
        await ask()
        for _ in range(repetitions):
            pieces.clear()
            cpu_before, wall_before = time.process_time(), time.perf_counter()
            await ask()
            cpu.append(time.process_time() - cpu_before)
            wall.append(time.perf_counter() - wall_before)
            if "".join(pieces).strip() != stream.answer.strip():
                raise BrokenRunError(f"{name}: {len(''.join(pieces))} of {len(stream.answer)} characters came")
    return Cost(name, min(cpu) / stream.tokens * 1e6, stream.tokens / min(wall))
