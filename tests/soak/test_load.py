"""Many concurrent turns, many consecutive turns, and random faults: every turn ends correctly, nothing leaks."""

import asyncio
import gc
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from amplifier_core.llm_errors import LLMError

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.call_events import assert_contract, attempts, streamed_text
from tests.support.exchange import block_contents, mounted_provider, user
from tests.support.fault_table import FAULTS
from tests.support.oddities import ODDITIES
from tests.support.replay import ENDPOINTS, ReplayServer, Reply
from tests.support.session import Event, Session, open_session, vllm
from tests.support.speaker import Answer
from tests.support.speech import ANSWER_TEXT, REASONING_TEXT
from tests.support.wire import EVENTS, HEALTHY, sse_reply

pytestmark = pytest.mark.soak

STREAMS: Final = 1_000
TURNS: Final = 10_000
SOAK_SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "120"))
WORKERS: Final = 16
CITIES: Final = user("Which cities?")
WHOLE_ANSWER: Final = [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
MOST_GROWTH: Final = 4 * 2**20
"""Bytes, over nine thousand turns: growth of Python's allocator, less than 0.5 kB a turn."""


async def test_a_thousand_concurrent_streams_are_all_answered() -> None:
    slow = sse_reply(*EVENTS, piece=300, delay_between_pieces=0.5)

    async with ReplayServer(always=slow) as server, open_session(vllm(server.base_url, max_retries=0)) as session:
        most: list[int] = []
        watching = asyncio.create_task(_most_connections(server, most))
        replies = await asyncio.gather(*(mounted_provider(session).complete(CITIES) for _ in range(STREAMS)))
        watching.cancel()

    ends = Counter(data["status"] for data in session.payloads("llm:response"))
    print(f"{STREAMS} streams, {max(most)} connections at once")
    assert Counter(tuple(block_contents(reply)) for reply in replies) == {tuple(WHOLE_ANSWER): STREAMS}
    assert (ends, len(server.request_bodies)) == ({"ok": STREAMS}, STREAMS)
    for call in _by_call(session):
        assert_contract(call, replies[0])


async def test_ten_thousand_turns_do_not_leak_memory() -> None:
    held: list[tuple[int, int, int]] = []

    async with ReplayServer(always=HEALTHY[True]) as server, open_session(vllm(server.base_url)) as session:
        provider, began = mounted_provider(session), time.monotonic()
        for turn in range(1, TURNS + 1):
            reply = await provider.complete(CITIES)
            assert block_contents(reply) == WHOLE_ANSWER
            session.events.clear()
            server.requests.clear()
            if turn % 1_000 == 0:
                gc.collect()
                held.append((_resident_bytes(), _descriptors(), len(asyncio.all_tasks())))
        took = time.monotonic() - began

    memory, descriptors, tasks = zip(*held, strict=True)
    print(f"{TURNS} turns, {took / TURNS * 1000:.1f} ms each; memory grew {(memory[-1] - memory[0]) / 1024:.0f} KiB")
    assert memory[-1] - memory[0] < MOST_GROWTH
    assert (len(set(descriptors)), len(set(tasks))) == (1, 1)


async def test_every_turn_ends_correctly_in_two_minutes_of_random_faults(answer: Answer) -> None:
    chance = random.Random(5)
    config: dict[str, Any] = {
        "max_retries": 2, "min_retry_delay": 0.01, "max_retry_delay": 0.05, "stream_idle_timeout": 1.0,
        "default_model": "tiny-qwen3", "endpoint": answer.endpoint,
    }  # fmt: skip
    outcomes: Counter[str] = Counter()

    async with RandomServer(answer, chance) as server, open_session(vllm(server.base_url, **config)) as session:
        until = time.monotonic() + SOAK_SECONDS
        turns = [_turns(mounted_provider(session), chance, until, outcomes) for _ in range(WORKERS)]
        await asyncio.gather(*turns)
        await server.wait_for_disconnect(remaining=WORKERS)
    async with asyncio.timeout(30):
        await server.wait_for_disconnect()

    ends = Counter(data["status"] for data in session.payloads("llm:response"))
    print(f"{outcomes.total()} turns in {SOAK_SECONDS:.0f} s: {dict(outcomes)}; {len(server.request_bodies)} requests")
    assert ends.total() == outcomes.total()
    # A call that is cancelled while its final hooks run has ended all the same.
    too_late = Counter(answered=ends["ok"], failed=ends["error"]) - outcomes
    assert ends["cancelled"] + too_late.total() == outcomes["cancelled"]
    # A call that is cancelled before its first event has sent no request.
    assert 0 <= outcomes.total() - len(session.payloads("llm:request")) <= outcomes["cancelled"]
    assert len({data["request_id"] for data in session.payloads("llm:response")}) == outcomes.total()
    assert asyncio.all_tasks() <= {asyncio.current_task(), *server.tasks}
    for call in _by_call(session):
        _assert_streamed_well(call)


class RandomServer(ReplayServer):
    """Sends a correct reply half of the time, else a random fault or oddity."""

    def __init__(self, answer: Answer, chance: random.Random) -> None:
        super().__init__()
        self._right, self._chance = answer.sse(), chance
        faults = [reply for fault in FAULTS[answer.endpoint].values() for reply in (fault.sse_reply, fault.whole_reply)]
        self._wrong = [reply for reply in [*faults, *ODDITIES[answer.endpoint].values()] if len(reply.body) < 1_000_000]

    def _answer(self, request: Any) -> Reply:
        if request.path not in ENDPOINTS:
            return super()._answer(request)
        return self._right if self._chance.random() < 0.5 else self._chance.choice(self._wrong)


async def _turns(provider: VLLMProvider, chance: random.Random, until: float, outcomes: Counter[str]) -> None:
    while time.monotonic() < until:
        patience = chance.uniform(0.001, 0.2) if chance.random() < 0.1 else None
        try:
            async with asyncio.timeout(patience):
                reply = await provider.complete(CITIES)
            assert block_contents(reply) in (WHOLE_ANSWER, WHOLE_ANSWER[::-1])
            outcomes["answered"] += 1
        except LLMError:
            outcomes["failed"] += 1
        except TimeoutError:
            outcomes["cancelled"] += 1


async def _most_connections(server: ReplayServer, counts: list[int]) -> None:
    while True:
        counts.append(server.connections)
        await asyncio.sleep(0.1)


def _by_call(session: Session) -> list[Session]:
    """The session's events, split by call."""
    calls: dict[str, list[Event]] = {}
    for event in session.events:
        if "request_id" in event.data:
            calls.setdefault(event.data["request_id"], []).append(event)
    return [Session(session.kernel, events) for events in calls.values()]


def _assert_streamed_well(call: Session) -> None:
    """Check the stream of one call; a cancelled one may emit an abort even before its first block event."""
    (end,) = call.payloads("llm:response")
    match end["status"]:
        case "ok":
            *_, stands = (streamed_text(attempt) for attempt in attempts(call.events))
            assert sorted(stands) == sorted(REASONING_TEXT + ANSWER_TEXT)
        case "error":
            assert_contract(call, None)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a path each would hold one more


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VLLM_API_KEY", "VLLM_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
