"""A server that refuses, dies or sends garbage costs a retry or a typed error, never a partial reply."""

import json
from decimal import Decimal
from typing import Any

import pytest
from amplifier_core.llm_errors import (
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    NetworkError,
    NotFoundError,
    ProviderUnavailableError,
    StreamError,
)
from amplifier_core.message_models import ChatRequest, Message

from amplifier_module_provider_vllm import VLLMProvider
from amplifier_module_provider_vllm._response_handling import to_response
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import BrokenStream, Recording, load_broken_stream, load_recording
from tests.support.replay import ReplayServer, Reply, json_reply, reply
from tests.support.rounds import turn_of

QUESTION = ChatRequest(messages=[Message(role="user", content="What is the capital of France?")])
ANSWER = load_recording("tiny-qwen3", "r1_answer_stream")
EMPTY = load_recording("tiny-qwen3", "r5_cut_at_1_stream")
BUSY = json_reply(503, {"error": {"message": "The engine is currently busy.", "code": 503}})
CUT = reply(ANSWER, cut_at=2500, ending="cut")


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def stream(*events: bytes) -> Reply:
    return Reply(200, {"content-type": "text/event-stream"}, b"".join(events))


DELTA = event("response.output_text.delta", delta="Par", output_index=0)
FAILED = event("response.failed", response={"error": {"message": "engine dead"}})
HTML = {"content-type": "text/html"}


async def raised_error(
    *answers: Reply | Recording | BrokenStream, recorder: EventRecorder | None = None, **config: Any
) -> LLMError:
    """The error of a call whose rounds get these answers."""
    settings: dict[str, Any] = {"max_retries": len(answers) - 1, **config}
    async with ReplayServer(*answers) as server, provider_at(server.base_url, recorder, **settings) as provider:
        with pytest.raises(LLMError) as raised:
            await provider.complete(QUESTION, max_output_tokens=40)
        assert not server.replies
    return raised.value


def call_ends(recorder: EventRecorder) -> list[dict[str, Any]]:
    """The `llm:response` events of the call."""
    keys = ("status", "error", "finish_reason")
    return [{key: data[key] for key in keys if key in data} for data in recorder.payloads("llm:response")]


@pytest.mark.parametrize("first", [CUT, BUSY, load_broken_stream("kill_engine")], ids=["cut", "busy", "killed"])
async def test_a_failed_round_is_retried(first: Reply | Recording | BrokenStream) -> None:
    recorder = EventRecorder()

    async with ReplayServer(first, ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        response = await provider.complete(QUESTION, max_output_tokens=40)

    (retry,) = recorder.payloads("provider:retry")
    assert response == to_response(turn_of(ANSWER), [], None)
    assert server.request_bodies[0] == server.request_bodies[1]
    assert (retry["attempt"], retry["model"]) == (1, "tiny-qwen3")
    assert call_ends(recorder) == [{"status": "ok", "finish_reason": "stop"}]
    assert {event.data["request_id"] for event in recorder.events} == {retry["request_id"]}


async def test_a_broken_stream_is_aborted_and_its_retry_streams_from_the_start() -> None:
    recorder = EventRecorder()

    async with ReplayServer(CUT, ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        await provider.complete(QUESTION)

    aborted = recorder.names.index("llm:stream_aborted")
    starts = [data["block_index"] for data in recorder.payloads("llm:stream_block_start")]
    assert starts == [0, 0, 1]
    assert recorder.names[aborted - 2 : aborted] == ["llm:stream_block_delta", "llm:stream_block_end"]
    assert recorder.names[aborted + 1] == "provider:retry"
    assert recorder.events[aborted].data["error"]["type"] == "StreamError"


async def test_a_round_that_fails_before_streaming_emits_no_abort() -> None:
    recorder = EventRecorder()

    await raised_error(BUSY, BUSY, recorder=recorder)

    assert recorder.names == ["llm:request", "provider:retry", "llm:response"]


@pytest.mark.parametrize(
    ("answer", "expected", "message"),
    [
        (CUT, StreamError, "broke before the reply was complete"),
        (load_broken_stream("kill_engine"), StreamError, "broke before the reply was complete"),
        (load_broken_stream("sigkill_server"), StreamError, "broke before the reply was complete"),
        (reply(ANSWER, cut_at=2500), StreamError, "sent an invalid reply"),
        (stream(DELTA), StreamError, "the stream ended before the reply did"),
        (stream(DELTA, DELTA[:60] + b"\n\n"), StreamError, "sent an invalid reply"),
        (stream(event("response.output_item.added", item=5)), StreamError, "sent an invalid reply"),
        (stream(), StreamError, "the stream ended before the reply did"),
        (stream(DELTA, event("error", message="engine dead")), ProviderUnavailableError, "engine dead"),
        (stream(DELTA, b'data: {"error": {"message": "dead"}}\n\n'), ProviderUnavailableError, "dead"),
        (stream(DELTA, FAILED), ProviderUnavailableError, "engine dead"),
        (json_reply(200, {"error": {"message": "harmony", "code": 500}}), ProviderUnavailableError, "harmony"),
        (json_reply(200, {"output": "none"}), StreamError, "sent an invalid reply"),
        (Reply(200, HTML, b"<html>"), StreamError, "sent an invalid reply"),
        (BUSY, ProviderUnavailableError, "The engine is currently busy."),
        (Reply(502, HTML, b"<html><title>Bad Gateway</title>"), ProviderUnavailableError, "Bad Gateway"),
    ],
    ids=[
        "cut", "engine killed", "server killed", "cut and ended", "no terminal event", "half an event",
        "an item that is none", "an empty stream", "error event", "error of the chat endpoint", "failed",
        "error with status 200", "no reply", "a page with status 200", "busy", "a page",
    ],
)  # fmt: skip
async def test_a_retryable_error_is_raised_after_the_last_retry(
    answer: Reply | BrokenStream, expected: type[LLMError], message: str
) -> None:
    recorder = EventRecorder()

    error = await raised_error(answer, answer, recorder=recorder)

    assert (type(error), error.retryable, error.provider, error.model) == (expected, True, "vllm", "tiny-qwen3")
    assert message in str(error)
    assert len(recorder.payloads("provider:retry")) == 1
    assert call_ends(recorder) == [{"status": "error", "error": {"type": expected.__name__, "msg": str(error)}}]
    assert recorder.names[-1] == "llm:response"


@pytest.mark.parametrize(
    ("case", "expected"),
    [("ctx_overflow", ContextLengthError), ("image_input", InvalidRequestError), ("unknown_model", NotFoundError)],
)
async def test_a_refusal_is_raised_without_a_retry(case: str, expected: type[LLMError]) -> None:
    recorder = EventRecorder()

    error = await raised_error(load_recording("tiny-qwen3", case), recorder=recorder, max_retries=3)

    assert (type(error), error.retryable, error.status_code) == (
        expected,
        False,
        load_recording("tiny-qwen3", case).status,
    )
    assert recorder.names == ["llm:request", "llm:response"]


async def test_the_tokens_of_an_empty_reply_are_billed() -> None:
    async with (
        ReplayServer(EMPTY, ANSWER) as server,
        provider_at(server.base_url, rates={"input": 1, "output": 1}) as provider,
    ):
        response: Any = await provider.complete(QUESTION, max_output_tokens=40)

    empty, answer = turn_of(EMPTY).usage, turn_of(ANSWER).usage
    assert empty is not None
    assert answer is not None
    billed = {
        "input_tokens": empty.input_tokens + answer.input_tokens,
        "output_tokens": empty.output_tokens + answer.output_tokens,
    }
    assert response.content == to_response(turn_of(ANSWER), [], None).content  # type: ignore[union-attr]
    assert response.metadata["vllm:billed_tokens"] == billed
    assert response.usage.cost_usd == Decimal(sum(billed.values())) / 1_000_000


async def test_the_tokens_of_a_call_that_fails_are_in_the_sessions_cost() -> None:
    async with (
        ReplayServer(EMPTY, EMPTY) as server,
        provider_at(server.base_url, rates={"input": 1, "output": 1}) as provider,
    ):
        with pytest.raises(ProviderUnavailableError):
            await provider.complete(QUESTION, max_output_tokens=40)

        usage = turn_of(EMPTY).usage
        assert usage is not None
        assert provider.session_cost() == {
            "cost_usd": str(Decimal(2 * (usage.input_tokens + usage.output_tokens)) / 1_000_000)
        }


async def test_an_empty_reply_is_retried_once() -> None:
    error = await raised_error(EMPTY, EMPTY, max_retries=5)

    assert (type(error), error.retryable) == (ProviderUnavailableError, False)
    assert str(error) == "the reply was truncated (max_output_tokens) before any output"


async def test_the_context_window_is_learned_from_a_refusal() -> None:
    nothing_known = json_reply(404, {"detail": "Not Found"})
    overflow = load_recording("tiny-qwen3", "ctx_overflow")

    async with (
        ReplayServer(overflow, models=nothing_known) as server,
        provider_at(server.base_url, default_model="tiny-qwen3") as provider,
    ):
        before = provider.get_model_info().context_window
        with pytest.raises(ContextLengthError):
            await provider.complete(QUESTION)
        after = provider.get_model_info().context_window

    assert (before, after) == (128_000, 4096)


async def test_the_error_for_an_unknown_model_lists_the_served_models() -> None:
    async with (
        ReplayServer(load_recording("tiny-qwen3", "unknown_model")) as server,
        provider_at(server.base_url) as provider,
    ):
        with pytest.raises(NotFoundError) as raised:
            await provider.complete(QUESTION, model="no/such-model")

    assert raised.value.model == "no/such-model"
    assert str(raised.value).endswith("The server has: tiny-qwen3. Set `default_model` to one of them.")


async def test_the_error_for_an_unreachable_server_names_its_url() -> None:
    provider = VLLMProvider("http://127.0.0.1:1", config={"max_retries": 0})

    with pytest.raises(NetworkError) as raised:
        await provider.complete(QUESTION)

    assert str(raised.value).startswith("no connection to http://127.0.0.1:1/v1 (")
    assert "check that the vLLM server is running there" in str(raised.value)
    await provider.close()


async def test_an_exception_in_a_hook_does_not_lose_the_reply() -> None:
    recorder = EventRecorder()

    async def raise_error(_name: str, _data: dict[str, Any]) -> None:
        raise ValueError("a bug in a hook")

    recorder.coordinator.hooks.register("llm:stream_block_delta", raise_error, priority=1, name="broken")
    async with ReplayServer(ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        response = await provider.complete(QUESTION)

    assert response == to_response(turn_of(ANSWER), [], None)
