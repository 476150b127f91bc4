"""A session that is cancelled at once, as by a second Ctrl+C, ends its call wherever it waits; a graceful one does not.

The kernel only sets the token: it cancels no task.
"""

import asyncio
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from amplifier_core.llm_errors import AbortError

from amplifier_module_provider_vllm import VLLMProvider
from tests.faults.test_cancellation import MOMENTS, Moment, wait_until
from tests.support.call_events import EventCounts, assert_contract, event_counts
from tests.support.fault_table import NEVER
from tests.support.provider_session import CITIES, provider_session
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, reply
from tests.support.session import Session
from tests.support.speaker import ANSWERS, Answer
from tests.support.wire import EVENTS, sse_reply, whole_reply

CALL = load_recording("tiny-qwen3", "r2_tool_stream")
ANSWER = load_recording("tiny-qwen3", "r3_after_tool_stream")
STALLED = ANSWERS["responses"].sse(cut_at=ANSWERS["responses"].stall_offset, ending="stall")
SLOW_CALL = reply(CALL, piece=200, delay_between_pieces=0.02)


@pytest.mark.parametrize(("answer", "moment"), MOMENTS.values(), ids=MOMENTS)
async def test_a_cancelled_session_ends_its_call_at_any_point(answer: Answer, moment: Moment) -> None:
    async with (
        ReplayServer(*moment.replies) as server,
        provider_session(server, endpoint=answer.endpoint, **moment.config) as (session, _),
    ):
        question = asyncio.create_task(session.ask("Which cities?"))
        await wait_until(
            lambda: (
                len(server.request_bodies) == moment.requests
                and (moment.event is None or bool(session.payloads(moment.event)))
            )
        )
        await asyncio.sleep(0.05)  # the hooks have seen all of the stream by now
        session.coordinator.cancellation.request_immediate()
        with pytest.raises(AbortError, match="cancelled"):
            await question
        sent = len(server.request_bodies)
        await server.wait_for_disconnect(remaining=1)

    counts = event_counts(session)
    assert (counts.requests, counts.statuses) == (1, ["cancelled"])
    assert bool(session.payloads("llm:stream_aborted")) == moment.visible
    assert len(server.request_bodies) == sent == moment.requests
    assert _started_blocks(session) == _ended_blocks(session)
    assert_contract(session, None)


async def test_the_call_ends_within_a_tenth_of_a_second(answer: Answer) -> None:
    stalled = answer.sse(cut_at=answer.stall_offset, ending="stall")
    waits: list[float] = []

    for _ in range(5):
        async with (
            ReplayServer(stalled) as server,
            provider_session(server, endpoint=answer.endpoint) as (session, provider),
        ):
            call = asyncio.create_task(provider.complete(CITIES))
            await wait_until(lambda session=session: bool(session.payloads("llm:stream_block_delta")))  # type: ignore[misc]
            session.coordinator.cancellation.request_immediate()
            start = time.monotonic()
            with pytest.raises(AbortError):
                await call
            waits.append(time.monotonic() - start)

    assert min(waits) < 0.1


async def test_the_app_cancels_its_turn_before_the_error_reaches_it() -> None:
    """The app looks every 50 ms. It shows an error that is first as a failure, and does not save the turn."""
    outcomes: list[str] = []

    for _ in range(5):
        async with ReplayServer(STALLED) as server, provider_session(server) as (session, _):
            outcomes.append(await _turn_in_the_app(session))

    assert outcomes == ["Cancelled"] * 5


async def test_a_session_cancelled_while_its_model_is_looked_up_asks_nothing() -> None:
    async with (
        ReplayServer(models=whole_reply(b"", delay_before_headers=NEVER)) as server,
        provider_session(server) as (session, provider),
    ):
        call = asyncio.create_task(provider.complete(CITIES))
        await wait_until(lambda: bool(server.requests))
        session.coordinator.cancellation.request_immediate()
        with pytest.raises(AbortError):
            await call

    assert server.request_bodies == []
    assert [data["status"] for data in session.payloads("llm:response")] == ["cancelled"]


async def test_a_session_cancelled_while_a_request_is_counted_gets_no_budget() -> None:
    async with (
        ReplayServer(models=whole_reply(b"", delay_before_headers=NEVER)) as server,
        provider_session(server) as (session, provider),
    ):
        call = asyncio.create_task(provider.request_budget(CITIES, context_estimate=10))
        await wait_until(lambda: bool(server.requests))
        start = time.monotonic()
        session.coordinator.cancellation.request_immediate()
        budget = await call
        waited = time.monotonic() - start

    assert budget is None
    assert waited < 1


async def test_a_call_of_a_cancelled_turn_is_not_run_and_the_next_turn_works() -> None:
    async with ReplayServer(SLOW_CALL, ANSWER) as server, provider_session(server) as (session, _):
        question = asyncio.create_task(session.ask("What is the weather in Paris?"))
        await wait_until(lambda: bool(session.payloads("llm:stream_block_delta")))
        session.coordinator.cancellation.request_immediate()
        with pytest.raises(AbortError):
            await question
        session.coordinator.cancellation.reset()
        answer = await session.ask("And now?")

    assert answer.strip() == "It is sunny and 21 degrees in Paris."
    assert session.coordinator.get("tools")["get_weather"].calls == []
    assert [message["role"] for message in server.request_bodies[1]["input"]] == ["user", "user"]


async def test_a_session_cancelled_when_the_reply_is_complete_returns_nothing_of_it(answer: Answer) -> None:
    async with ReplayServer(answer.sse()) as server:

        def cancel_at_the_end(name: str, _data: object) -> None:
            if name == "llm:stream_block_end":
                cancellation.request_immediate()

        async with provider_session(server, listener=cancel_at_the_end, endpoint=answer.endpoint) as (
            session,
            provider,
        ):
            cancellation = session.coordinator.cancellation
            with pytest.raises(AbortError):
                await provider.complete(CITIES)

    assert [data["status"] for data in session.payloads("llm:response")] == ["cancelled"]


async def test_a_hook_that_swallows_the_cancellation_does_not_get_the_session_a_reply() -> None:
    cancellation = SimpleNamespace(is_immediate=False)

    class Hooks:
        async def emit(self, name: str, _data: object) -> None:
            if name == "llm:stream_block_delta" and not cancellation.is_immediate:
                cancellation.is_immediate = True
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(NEVER)

    coordinator = SimpleNamespace(hooks=Hooks(), get=lambda _kind: {}, cancellation=cancellation)

    async with ReplayServer(sse_reply(*EVENTS)) as server:
        provider = VLLMProvider(server.base_url, coordinator=coordinator)
        with pytest.raises(AbortError):
            await provider.complete(CITIES)
        await provider.close()


async def test_a_graceful_cancellation_lets_the_call_end() -> None:
    async with ReplayServer(SLOW_CALL) as server, provider_session(server) as (session, _):
        question = asyncio.create_task(session.ask("What is the weather in Paris?"))
        await wait_until(lambda: bool(session.payloads("llm:stream_block_delta")))
        session.coordinator.cancellation.request_graceful()
        await question
        stored = await session.messages()

    assert [call["tool"] for call in stored[1]["tool_calls"]] == ["get_weather"]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)


async def test_a_task_cancelled_together_with_its_session_stays_cancelled() -> None:
    async with ReplayServer(STALLED) as server, provider_session(server) as (session, provider):
        call = asyncio.create_task(provider.complete(CITIES))
        await wait_until(lambda: bool(session.payloads("llm:stream_block_delta")))
        session.coordinator.cancellation.request_immediate()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert [data["status"] for data in session.payloads("llm:response")] == ["cancelled"]


async def test_a_coordinator_without_a_cancellation_token_works() -> None:
    class Hooks:
        async def emit(self, _name: str, _data: object) -> None: ...

    coordinator = SimpleNamespace(hooks=Hooks(), get=lambda _kind: {})

    async with ReplayServer(sse_reply(*EVENTS)) as server:
        provider = VLLMProvider(server.base_url, coordinator=coordinator)
        response = await provider.complete(CITIES)
        await provider.close()

    assert response.finish_reason == "stop"


async def _turn_in_the_app(session: Session) -> str:
    """A turn as amplifier-app-cli runs it, cancelled at once just after the app's look: "Cancelled", or the error."""
    token = session.coordinator.cancellation
    turn = asyncio.create_task(session.ask("Which cities?"))
    while not turn.done():
        if token.is_immediate:
            turn.cancel()
            break
        if session.payloads("llm:stream_block_delta"):
            token.request_immediate()
        await asyncio.sleep(0.05)
    try:
        return await turn
    except asyncio.CancelledError:
        return "Cancelled"
    except AbortError as error:
        return str(error)


def _started_blocks(session: Session) -> list[int]:
    return [data["block_index"] for data in session.payloads("llm:stream_block_start")]


def _ended_blocks(session: Session) -> list[int]:
    return [data["block_index"] for data in session.payloads("llm:stream_block_end")]
