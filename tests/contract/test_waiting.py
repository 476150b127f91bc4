"""Every wait for a server ends: at its own deadline, at the caller's, or when the call is cancelled."""

import asyncio
import time
from typing import Any

import pytest
from amplifier_core.llm_errors import LLMTimeoutError
from amplifier_core.message_models import ChatRequest, Message

from amplifier_module_provider_vllm import CallKeywords
from amplifier_module_provider_vllm._response_handling import to_response
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply, reply
from tests.support.rounds import turn_of

QUESTION = ChatRequest(messages=[Message(role="user", content="What is the capital of France?")])
ANSWER = load_recording("tiny-qwen3", "r1_answer_stream")
BUSY = json_reply(503, {"error": {"message": "The engine is currently busy.", "code": 503}})


@pytest.mark.parametrize(
    "answer",
    [
        reply(ANSWER, delay_before_headers=5),
        reply(ANSWER, cut_at=0, ending="stall"),
        reply(ANSWER, cut_at=2500, ending="stall"),
        reply(load_recording("tiny-qwen3", "r1_answer"), cut_at=20, ending="stall"),
    ],
    ids=["no headers", "no bytes", "no further bytes", "half an unstreamed reply"],
)
async def test_a_stalled_server_times_out(answer: Reply) -> None:
    recorder = EventRecorder()

    config: dict[str, Any] = {"stream_idle_timeout": 0.2, "max_retries": 0}
    async with ReplayServer(answer) as server, provider_at(server.base_url, recorder, **config) as provider:
        with pytest.raises(LLMTimeoutError, match="sent nothing for too long") as raised:
            await provider.complete(QUESTION)

    assert raised.value.retryable
    assert str(raised.value).endswith("nothing within 0.2 s (`stream_idle_timeout`)")
    assert [data["status"] for data in recorder.payloads("llm:response")] == ["error"]


async def test_an_active_stream_has_no_time_limit() -> None:
    slow = reply(ANSWER, piece=900, delay_between_pieces=0.1)

    async with ReplayServer(slow) as server, provider_at(server.base_url, stream_idle_timeout=0.8) as provider:
        started = time.monotonic()
        response = await provider.complete(QUESTION)

    assert time.monotonic() - started > 0.8
    assert response == to_response(turn_of(ANSWER), [], None)


@pytest.mark.parametrize("place", ["kwargs", "request", "config"])
async def test_the_callers_timeout_bounds_the_call_with_its_retries(place: str) -> None:
    recorder = EventRecorder()
    request = QUESTION.model_copy(update={"timeout": 0.3} if place == "request" else {})
    stall = reply(ANSWER, cut_at=2500, ending="stall")
    config = {"timeout": 0.3} if place == "config" else {}
    kwargs: CallKeywords = {"timeout": 0.3} if place == "kwargs" else {}

    async with ReplayServer(BUSY, stall) as server, provider_at(server.base_url, recorder, **config) as provider:
        with pytest.raises(LLMTimeoutError, match=r"no reply within the timeout of 0.3 s"):
            await provider.complete(request, **kwargs)

    assert recorder.names[-1] == "llm:response"
    assert [data["status"] for data in recorder.payloads("llm:response")] == ["error"]


async def test_a_cancelled_call_emits_one_abort_and_one_response_and_stops() -> None:
    recorder = EventRecorder()
    stall = reply(ANSWER, cut_at=2500, ending="stall")

    async with ReplayServer(stall) as server, provider_at(server.base_url, recorder) as provider:
        call = asyncio.create_task(provider.complete(QUESTION))
        await recorder.wait_for("llm:stream_block_delta")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert recorder.names[-2:] == ["llm:stream_aborted", "llm:response"]
    assert [data["status"] for data in recorder.payloads("llm:response")] == ["cancelled"]


async def test_a_call_cancelled_before_streaming_emits_no_abort() -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(reply(ANSWER, delay_before_headers=5)) as server,
        provider_at(server.base_url, recorder) as provider,
    ):
        call = asyncio.create_task(provider.complete(QUESTION))
        await recorder.wait_for("llm:request")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert recorder.names == ["llm:request", "llm:response"]
    assert [data["status"] for data in recorder.payloads("llm:response")] == ["cancelled"]


async def test_a_retry_after_header_is_respected() -> None:
    recorder = EventRecorder()
    busy = json_reply(503, {"error": {"message": "busy"}}, {"retry-after": "0.2"})

    async with ReplayServer(busy, ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        started = time.monotonic()
        await provider.complete(QUESTION)

    (retry,) = recorder.payloads("provider:retry")
    assert time.monotonic() - started >= 0.2
    assert (retry["retry_after"], retry["status_code"]) == (0.2, 503)
