"""A session gets the same reply from /v1/chat/completions, streamed or not, over a real socket."""

from typing import Any

import pytest
from amplifier_core.llm_errors import (
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    ProviderUnavailableError,
)
from amplifier_core.message_models import ChatResponse

from tests.support.chat_rounds import chunk, stream
from tests.support.exchange import CAPITAL, TWO_WEATHERS, WEATHER, comparable, open_provider
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply

SSE = {"content-type": "text/event-stream; charset=utf-8"}
EXCHANGES = {"chat_answer": CAPITAL, "chat_tool": WEATHER, "chat_parallel": TWO_WEATHERS, "chat_preamble": WEATHER}


def streamed(*chunks: object, done: bool = True, **shape: Any) -> Reply:
    return Reply(200, headers=SSE, body=stream(*chunks, done=done), **shape)


async def ask(*replies: Any, streaming: bool = True, **config: Any) -> ChatResponse:
    async with (
        ReplayServer(*replies) as server,
        open_provider(server.base_url, endpoint="chat", use_streaming=streaming, max_retries=0, **config) as provider,
    ):
        return await provider.complete(WEATHER)


@pytest.mark.parametrize("model", ["tiny-qwen3", "tiny-gpt-oss"])
@pytest.mark.parametrize("case", EXCHANGES)
async def test_a_streamed_and_an_unstreamed_reply_are_one_response(model: str, case: str) -> None:
    recordings = [load_recording(f"chat/{model}", name) for name in (f"{case}_stream", case)]
    async with ReplayServer(*recordings) as server:
        async with open_provider(server.base_url, endpoint="chat", default_model=model) as provider:
            responses = [await provider.complete(EXCHANGES[case], stream=streaming) for streaming in (True, False)]

        paths = {request.path for request in server.requests if request.method == "POST"}

    first, second = ({**comparable(one), "usage": None} for one in responses)
    assert first == second
    assert first["content"]
    assert paths == {"/v1/chat/completions"}
    assert [body["stream"] for body in server.request_bodies] == [True, False]


async def test_the_body_is_sent_as_it_was_encoded() -> None:
    async with (
        ReplayServer(streamed(chunk({"content": "Hi"}, "stop"))) as server,
        open_provider(server.base_url, endpoint="chat", default_model="m") as provider,
    ):
        await provider.complete(CAPITAL)

    (body,) = server.request_bodies
    assert (body["model"], body["messages"][-1]["content"]) == ("m", "What is the capital of France?")


async def test_a_stream_that_ends_without_done_is_complete_if_its_reason_has_come() -> None:
    response = await ask(streamed(chunk({"content": "Hi"}), chunk(finish_reason="stop"), done=False))

    assert (response.text, response.finish_reason) == ("Hi", "stop")  # type: ignore[attr-defined]  # an extra field


@pytest.mark.parametrize("done", [True, False])
async def test_a_stream_without_a_finish_reason_is_asked_for_again(done: bool) -> None:
    broken, good = streamed(chunk({"content": "Hi"}), done=done), streamed(chunk({"content": "Hello"}, "stop"))
    async with (
        ReplayServer(broken, good) as server,
        open_provider(server.base_url, endpoint="chat", default_model="m", min_retry_delay=0) as provider,
    ):
        response = await provider.complete(CAPITAL)

    assert response.text == "Hello"  # type: ignore[attr-defined]  # an extra field
    assert len(server.request_bodies) == 2


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "no", "type": "BadRequestError", "code": 400}, InvalidRequestError),
        ({"message": "lost", "type": "InternalServerError", "code": 500}, ProviderUnavailableError),
        ({"message": "This model's maximum context length is 4096", "code": "400"}, ContextLengthError),
    ],
    ids=["request", "server", "context"],
)
async def test_an_error_with_status_200_is_classified_by_its_own_code(
    error: dict[str, Any], expected: type[LLMError], streaming: bool
) -> None:
    reply = streamed({"error": error}) if streaming else json_reply(200, {"error": error})

    with pytest.raises(expected) as raised:
        await ask(reply, streaming=streaming, default_model="m")

    assert raised.value.status_code == int(error["code"])


async def test_a_ping_does_not_keep_a_silent_server_alive() -> None:
    """Comments and pings show that a gateway is alive, not that the server works on the reply."""
    ping = b'data: {"type": "ping"}\n\n: keep-alive\n\n'

    with pytest.raises(LLMTimeoutError):
        await ask(streamed(done=False, ending="stall", drip=ping), default_model="m", stream_idle_timeout=0.3)
