"""Slow or failing hooks cost time, but never the reply."""

import asyncio
from typing import Any

import pytest

from tests.support.call_events import EventCounts, assert_contract, event_counts
from tests.support.exchange import block_contents
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import ReplayServer
from tests.support.speaker import Answer
from tests.support.speech import ANSWER_TEXT, REASONING_TEXT
from tests.support.wire import HEALTHY

SLOW = 0.1
"""In seconds for one event; all events together take many times the idle timeout."""


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_slow_hooks_do_not_count_against_the_idle_timeout(answer: Answer, stream: bool) -> None:
    emitted: list[str] = []

    async def listener(name: str, _data: dict[str, Any]) -> None:
        if name.startswith("llm:"):
            emitted.append(name)
            await asyncio.sleep(SLOW)

    by_event = answer.sse(piece=64) if stream else answer.whole()
    patience = {"stream_idle_timeout": 0.5, "max_retries": 0, "endpoint": answer.endpoint}
    async with (
        ReplayServer(by_event) as server,
        provider_session(server, listener=listener, use_streaming=stream, **patience) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert len(emitted) * SLOW > 0.5 or not stream
    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


async def test_slow_hooks_do_not_cancel_an_unstreamed_reply_to_a_stream_request(answer: Answer) -> None:
    async def listener(name: str, _data: dict[str, Any]) -> None:
        if name == "llm:stream_block_start":
            await asyncio.sleep(0.5)

    patience = {"stream_idle_timeout": 0.3, "max_retries": 0, "endpoint": answer.endpoint}
    async with (
        ReplayServer(answer.whole()) as server,
        provider_session(server, listener=listener, **patience) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert_contract(session, reply)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_a_hook_that_always_raises_does_not_lose_the_reply(answer: Answer, stream: bool) -> None:
    def listener(name: str, _data: dict[str, Any]) -> None:
        if name.startswith(("llm:", "provider:")):
            raise RuntimeError(name)

    faults = [answer.sse(cut_at=answer.stall_offset, ending="cut"), answer.healthy[stream]]
    async with (
        ReplayServer(*faults) as server,
        provider_session(server, listener=listener, use_streaming=stream, endpoint=answer.endpoint) as (
            session,
            provider,
        ),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=1, aborted=1 if stream else 0)


async def test_concurrent_calls_with_slow_hooks_do_not_block_each_other() -> None:
    async def listener(name: str, _data: dict[str, Any]) -> None:
        if name.startswith("llm:stream"):
            await asyncio.sleep(SLOW)

    async with (
        ReplayServer(always=HEALTHY[True]) as server,
        provider_session(server, listener=listener, stream_idle_timeout=5) as (session, provider),
    ):
        began = asyncio.get_running_loop().time()
        replies = await asyncio.gather(*(provider.complete(CITIES) for _ in range(10)))
        took = asyncio.get_running_loop().time() - began

    one_by_one = SLOW * sum(event.name.startswith("llm:stream") for event in session.events)
    assert [block_contents(reply)[-1] for reply in replies] == [("text", ANSWER_TEXT)] * 10
    assert took < one_by_one
