"""A cancelled call stops at once at any point: one response event, no further request, no open connection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.call_events import EventCounts, assert_contract, event_counts
from tests.support.fault_table import NEVER
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import ReplayServer, Reply
from tests.support.session import Session
from tests.support.speaker import ANSWERS, Answer, spoken
from tests.support.speech import Speech, text_part
from tests.support.wire import refusal, sse_reply, whole_reply


@dataclass
class Moment:
    """When to cancel: after this number of requests and an event of this name. `visible`: text was streamed by then."""

    replies: list[Reply]
    requests: int = 1
    event: str | None = None
    visible: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


def moments(answer: Answer) -> dict[str, Moment]:
    stalled = answer.sse(cut_at=answer.stall_offset, ending="stall")
    cut = Speech((text_part("Zürich, "),), "length", output_tokens=1)
    truncated = spoken(answer.speaker, cut)
    continued = answer.speaker.stream(Speech((text_part("東京, ", "Paris"),), follows=cut))
    return {
        "before the headers": Moment([sse_reply(delay_before_headers=NEVER)]),
        "between headers and events": Moment([sse_reply(ending="stall")]),
        "in the middle of a stream": Moment([stalled], event="llm:stream_block_delta", visible=True),
        "in the middle of an unstreamed reply": Moment(
            [answer.whole(cut_at=100, ending="stall")], config={"use_streaming": False}
        ),
        "while a retry waits": Moment(
            [refusal(503), answer.sse()], event="provider:retry", config={"min_retry_delay": 60}
        ),
        "while a retry waits after streamed text": Moment(
            [answer.sse(cut_at=answer.stall_offset, ending="cut"), answer.sse()],
            event="provider:retry", visible=True, config={"min_retry_delay": 60},
        ),
        "in the second attempt": Moment(
            [refusal(503), stalled], requests=2, event="llm:stream_block_delta", visible=True
        ),
        "in a continuation": Moment(
            [truncated, sse_reply(delay_before_headers=NEVER)],
            requests=2, event="llm:stream_block_delta", visible=True,
        ),
        "in the middle of a continuation": Moment(
            [truncated, sse_reply(*continued.before_last_delta, ending="stall")],
            requests=2, event="llm:stream_block_delta", visible=True,
        ),
        "after the terminal event": Moment([answer.sse(ending="stall")], event="llm:stream_block_end", visible=True),
    }  # fmt: skip


MOMENTS: Mapping[str, tuple[Answer, Moment]] = {
    f"{endpoint}-{name}": (answer, moment)
    for endpoint, answer in ANSWERS.items()
    for name, moment in moments(answer).items()
}


@pytest.mark.parametrize(("answer", "moment"), MOMENTS.values(), ids=MOMENTS)
async def test_a_cancelled_call_stops_at_any_point(answer: Answer, moment: Moment) -> None:
    async with (
        ReplayServer(*moment.replies) as server,
        provider_session(server, endpoint=answer.endpoint, **moment.config) as (session, provider),
    ):
        async with cancelled_call(provider):
            await wait_until(
                lambda: len(server.request_bodies) == moment.requests and _was_emitted(session, moment.event)
            )
        sent = len(server.request_bodies)
        await server.wait_for_disconnect(remaining=1)

    retries = len(session.payloads("provider:retry"))
    before = len(moment.replies) > 1 and moment.visible and retries > 0 and moment.replies[0].status == 200
    aborted = 1 if moment.visible or before else 0
    assert event_counts(session) == EventCounts(1, ["cancelled"], retries, aborted)
    assert len(server.request_bodies) == sent == moment.requests
    assert_contract(session, None)


async def test_a_call_cancelled_during_the_model_request_sends_nothing_more() -> None:
    stalled = whole_reply(b"", delay_before_headers=NEVER)

    async with ReplayServer(models=stalled) as server, provider_session(server) as (session, provider):
        probed = len(server.requests)
        async with cancelled_call(provider):
            await wait_until(lambda: len(server.requests) > probed)

    assert server.request_bodies == []
    assert [data["status"] for data in session.payloads("llm:response")] == ["cancelled"]


@pytest.mark.parametrize(
    "name",
    ["llm:request", "llm:stream_block_start", "llm:stream_block_delta", "llm:stream_block_end", "provider:retry"],
)
async def test_a_call_cancelled_in_a_hook_sends_nothing_more(name: str, answer: Answer) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def listener(event_name: str, _data: dict[str, Any]) -> None:
        if event_name == name and not entered.is_set():
            entered.set()
            await left.wait()

    replies = [refusal(503), answer.sse()] if name == "provider:retry" else [answer.sse()]
    async with (
        ReplayServer(*replies) as server,
        provider_session(server, listener=listener, endpoint=answer.endpoint) as (session, provider),
    ):
        async with cancelled_call(provider):
            await entered.wait()
        left.set()

    assert len(server.request_bodies) == (0 if name == "llm:request" else 1)
    assert [data["status"] for data in session.payloads("llm:response")] == ["cancelled"]
    assert len(session.payloads("llm:stream_aborted")) == ("stream" in name)


class _LateHooks:
    """Hooks whose listener begins late, for one event, and is not cancelled with `emit`: as in the kernel."""

    def __init__(self, late: int) -> None:
        self.names: list[str] = []
        self.is_late = asyncio.Event()
        self._late = late

    async def emit(self, event: str, _data: dict[str, Any]) -> None:
        self._late -= 1
        if self._late:
            self.names.append(event)
            return
        listener = asyncio.create_task(self._listen(event))
        self.is_late.set()
        await asyncio.shield(listener)

    async def _listen(self, event: str) -> None:
        await asyncio.sleep(0.02)
        self.names.append(event)


@pytest.mark.parametrize("late", range(1, 6))
async def test_no_listener_hears_an_event_of_a_cancelled_call_after_its_end(late: int, answer: Answer) -> None:
    hooks = _LateHooks(late)
    coordinator = SimpleNamespace(hooks=hooks, get=lambda _kind: {})
    async with ReplayServer(answer.sse()) as server:
        provider = VLLMProvider(server.base_url, config={"endpoint": answer.endpoint}, coordinator=coordinator)
        async with cancelled_call(provider):
            await hooks.is_late.wait()
        await asyncio.sleep(0.05)
        await provider.close()

    assert hooks.names[-1] == "llm:response"
    assert [name for name in hooks.names if name.startswith("llm:stream_")][-1:] in ([], ["llm:stream_aborted"])


async def test_a_call_cancelled_near_its_end_emits_exactly_one_response(answer: Answer) -> None:
    """Cancel at each step of the event loop after the server has sent everything."""
    for steps in range(40):
        async with (
            ReplayServer(answer.whole()) as server,
            provider_session(server, use_streaming=False, endpoint=answer.endpoint) as (session, provider),
        ):
            call = asyncio.create_task(provider.complete(CITIES))
            await wait_until(lambda: bool(session.payloads("llm:request")))
            await wait_until(lambda: server.connections == 1 and bool(server.request_bodies))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])

        assert len(session.payloads("llm:response")) == 1, f"cancelled after {steps} steps"


async def test_after_a_cancelled_call_the_next_one_works(answer: Answer) -> None:
    stalled = answer.sse(cut_at=answer.stall_offset, ending="stall")

    async with (
        ReplayServer(stalled, answer.sse()) as server,
        provider_session(server, endpoint=answer.endpoint) as (session, provider),
    ):
        async with cancelled_call(provider):
            await wait_until(lambda: bool(session.payloads("llm:stream_block_delta")))
        reply = await provider.complete(CITIES)

    assert reply.finish_reason == "stop"
    assert event_counts(session) == EventCounts(2, ["cancelled", "ok"], retries=0, aborted=1)


async def test_an_asyncio_timeout_around_the_call_is_a_cancellation() -> None:
    answer = ANSWERS["responses"]
    stalled = answer.sse(cut_at=answer.stall_offset, ending="stall")

    async with ReplayServer(stalled) as server, provider_session(server) as (session, provider):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await provider.complete(CITIES)

    assert event_counts(session) == EventCounts(1, ["cancelled"], retries=0, aborted=1)


@asynccontextmanager
async def cancelled_call(provider: VLLMProvider) -> AsyncIterator[None]:
    """A call that runs during the block and is cancelled at its end."""
    call = asyncio.create_task(provider.complete(CITIES))
    yield
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the server has no event for a new request
        await asyncio.sleep(0.01)


def _was_emitted(session: Session, name: str | None) -> bool:
    return name is None or bool(session.payloads(name))
