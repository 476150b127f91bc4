"""Closing, event loops and connections: no lost replies, no leaks, no duplicates."""

import asyncio
import gc
import os
from contextlib import suppress

import pytest
from amplifier_core.llm_errors import LLMError
from amplifier_core.message_models import ChatResponse

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.call_events import assert_contract, event_counts
from tests.support.exchange import block_contents, open_provider
from tests.support.provider_session import CITIES, HANG_TIMEOUT, provider_session
from tests.support.replay import ReplayServer, Reply
from tests.support.speaker import ANSWERS, Answer
from tests.support.speech import ANSWER_TEXT
from tests.support.wire import HEALTHY, refusal

IN_FLIGHT = {
    f"{endpoint}-{name}": (answer, reply)
    for endpoint, answer in ANSWERS.items()
    for name, reply in {
        "before the headers": answer.sse(delay_before_headers=3600),
        "in the middle of a stream": answer.sse(cut_at=answer.stall_offset, ending="stall"),
        "in the middle of an unstreamed reply": answer.whole(cut_at=100, ending="stall"),
    }.items()
}


@pytest.mark.parametrize(("answer", "reply"), IN_FLIGHT.values(), ids=IN_FLIGHT)
async def test_closing_ends_a_running_call_with_one_error(answer: Answer, reply: Reply) -> None:
    async with (
        ReplayServer(reply, always=answer.sse()) as server,
        provider_session(server, endpoint=answer.endpoint) as (session, provider),
    ):
        call = asyncio.create_task(provider.complete(CITIES))
        while not server.request_bodies:  # noqa: ASYNC110 - the server has no event for a new request
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await provider.close()
        with pytest.raises(LLMError, match="closed"):
            await call

    assert (len(server.request_bodies), event_counts(session).statuses, event_counts(session).retries) == (
        1,
        ["error"],
        0,
    )
    assert_contract(session, None)


async def test_closing_ends_a_call_that_waits_for_a_retry() -> None:
    async with (
        ReplayServer(refusal(503), always=HEALTHY[True]) as server,
        provider_session(server, min_retry_delay=0.3) as (session, provider),
    ):
        call = asyncio.create_task(provider.complete(CITIES))
        while not session.payloads("provider:retry"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await provider.close()
        with pytest.raises(LLMError, match="closed"):
            await call

    assert (len(server.request_bodies), event_counts(session).statuses) == (1, ["error"])


@pytest.mark.parametrize("steps", range(1, 13))
async def test_closing_leaves_no_connection_however_early_in_a_call_it_comes(answer: Answer, steps: int) -> None:
    async with (
        ReplayServer(always=answer.sse()) as server,
        open_provider(server.base_url, endpoint=answer.endpoint) as provider,
    ):
        await provider.probe()

        call = asyncio.create_task(provider.complete(CITIES))
        for _ in range(steps):  # of the event loop
            await asyncio.sleep(0)
        await provider.close()
        with suppress(LLMError):
            await call

        async with asyncio.timeout(1):
            await server.wait_for_disconnect()


async def test_concurrent_closes_are_harmless_and_the_next_call_reconnects() -> None:
    async with ReplayServer(always=HEALTHY[True]) as server, provider_session(server) as (_, provider):
        await provider.complete(CITIES)
        await asyncio.gather(*(provider.close() for _ in range(5)))
        reply = await provider.complete(CITIES)

    assert block_contents(reply)[-1] == ("text", ANSWER_TEXT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
def test_a_provider_answers_in_one_event_loop_after_another(answer: Answer, stream: bool) -> None:
    made: list[VLLMProvider] = []

    async def ask() -> ChatResponse:
        async with asyncio.timeout(HANG_TIMEOUT), ReplayServer(always=answer.healthy[stream], port=port) as server:
            config = {"use_streaming": stream, "endpoint": answer.endpoint}
            made[:] = made or [VLLMProvider(server.base_url, config=config)]
            return await made[0].complete(CITIES)

    # The first loop ended without closing its connection: Python closes it with a warning.

    port = 0
    first = asyncio.run(ask())
    port = int(made[0].url.rpartition(":")[2].partition("/")[0])
    second = asyncio.run(ask())
    asyncio.run(made[0].close())
    gc.collect()

    assert block_contents(first) == block_contents(second)


async def test_many_turns_leak_no_connection_task_or_descriptor(answer: Answer) -> None:
    """Complete, truncated, refused and cancelled turns; `make soak` runs this for longer."""
    cut, stalled = (answer.sse(cut_at=answer.stall_offset, ending=ending) for ending in ("cut", "stall"))
    replies = [answer.sse(), cut, answer.sse(), refusal(400)]

    async with ReplayServer() as server, provider_session(server, endpoint=answer.endpoint) as (session, provider):
        held: list[tuple[int, int, int]] = []
        for _ in range(15):
            server.replies.extend([*replies, stalled])
            await provider.complete(CITIES)
            await provider.complete(CITIES)
            with pytest.raises(LLMError):
                await provider.complete(CITIES)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await provider.complete(CITIES)
            await server.wait_for_disconnect(remaining=1)
            server.replies.clear()
            session.events.clear()
            gc.collect()
            held.append((len(asyncio.all_tasks() - server.tasks), _descriptors(), server.connections))

    settled = held[2:]
    assert len({tasks for tasks, _, _ in settled}) == 1
    assert max(descriptors for _, descriptors, _ in settled) <= settled[0][1] + 1
    assert max(connections for _, _, connections in settled) <= 1


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a path each would hold one more
