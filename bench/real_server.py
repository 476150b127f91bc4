"""The provider's overhead on a real vLLM with a tiny model, over reading the same bytes from a raw socket."""

import asyncio
import time
from dataclasses import dataclass
from statistics import median

from bench.contender import MODEL
from bench.contenders import FLOOR, OURS, find_contender
from bench.isolated import BrokenRunError, run_isolated
from tests.rig.server import serve_model


@dataclass(frozen=True)
class Overhead:
    """Medians over the replies, taken in turn from one and the other."""

    tokens: int
    raw_seconds: float
    provider_seconds: float
    raw_cpu_us_per_token: float
    provider_cpu_us_per_token: float


@dataclass(frozen=True)
class _Reply:
    text: str
    pieces: int
    wall: float
    cpu: float


def measure_real_server(repetitions: int) -> Overhead:
    with serve_model(MODEL) as server:
        return run_isolated(_overhead, server.base_url, repetitions)


def _overhead(base_url: str, repetitions: int) -> Overhead:
    return asyncio.run(_measure_one(base_url, repetitions))


async def _measure_one(base_url: str, repetitions: int) -> Overhead:
    replies: dict[str, list[_Reply]] = {FLOOR.name: [], OURS.name: []}
    for _ in range(repetitions + 1):
        for name, timings in replies.items():
            timings.append(await _reply(name, base_url))
    if len({reply.text for timings in replies.values() for reply in timings}) != 1:
        raise BrokenRunError("the provider and the raw socket did not bring the same answer from the real server")
    raw, ours = replies[FLOOR.name][1:], replies[OURS.name][1:]
    tokens = raw[0].pieces
    return Overhead(
        tokens=tokens,
        raw_seconds=median(reply.wall for reply in raw),
        provider_seconds=median(reply.wall for reply in ours),
        raw_cpu_us_per_token=median(reply.cpu for reply in raw) / tokens * 1e6,
        provider_cpu_us_per_token=median(reply.cpu for reply in ours) / tokens * 1e6,
    )


async def _reply(name: str, base_url: str) -> _Reply:
    pieces = list[str]()
    async with find_contender(name).open(base_url, pieces.append) as ask:
        wall, cpu = time.perf_counter(), time.process_time()
        await ask()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return _Reply("".join(pieces).strip(), len(pieces), wall, cpu)
