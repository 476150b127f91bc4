"""One call of the provider through the real SDK: its requests, and its results for the session."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import respx
from amplifier_core.llm_errors import AuthenticationError, ConfigurationError, NetworkError
from amplifier_core.message_models import (
    ChatRequest,
    Message,
    ToolCallBlock,
    ToolSpec,
)

from amplifier_module_provider_vllm import VLLMProvider, on_session_ready
from amplifier_module_provider_vllm._tool_repair import NO_RESULT
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, json_reply
from tests.support.requests import encode_messages
from tests.support.routes import http_response, routed_client

QUESTION = Message(role="user", content="What is the weather in Paris?")
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)
ANSWER, TOOL = load_recording("tiny-qwen3", "r1_answer_stream"), load_recording("tiny-qwen3", "r2_tool_stream")


def request(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(messages=list(messages) or [QUESTION], **fields)


async def test_the_request_body_is_the_encoders_output() -> None:
    fields: dict[str, Any] = {"tools": [WEATHER], "temperature": 0.5, "stop": ["END"], "tool_choice": "required"}
    config: dict[str, Any] = {"extra_request_params": {"top_k": 20}, "extra_headers": {"X-Session-ID": "s1"}}
    messages = [Message(role="system", content="Be brief."), QUESTION, Message(role="system", content="todo")]

    async with ReplayServer(TOOL) as server, provider_at(server.base_url, api_key="key", **config) as provider:
        await provider.complete(request(*messages, **fields), temperature=0.0, max_output_tokens=40)

    overrides = {"temperature": 0.0, "max_output_tokens": 40}
    expected = encode_messages(*messages, request=fields, overrides=overrides, config=config)
    models, call = server.requests
    assert call.json == expected | {"model": "tiny-qwen3"}
    assert (models.path, models.headers["x-session-id"]) == ("/v1/models", "s1")
    assert (call.headers["x-session-id"], call.headers["authorization"]) == ("s1", "Bearer key")


async def test_a_call_does_not_modify_the_callers_request() -> None:
    fields = request(
        Message(role="system", content="Be brief."),
        QUESTION,
        Message(role="assistant", content=[ToolCallBlock(id="call_1", name="get_weather", input={"city": "Paris"})]),
        Message(role="system", content="todo"),
        tools=[WEATHER],
    )
    before = fields.model_copy(deep=True)

    async with ReplayServer(ANSWER) as server, provider_at(server.base_url) as provider:
        await provider.complete(fields)

    assert fields == before


@pytest.mark.parametrize(
    ("config", "fields", "kwargs", "model"),
    [
        ({}, {}, {}, "tiny-qwen3"),
        ({"default_model": "configured"}, {}, {}, "configured"),
        ({"default_model": "configured"}, {"model": "requested"}, {}, "requested"),
        ({"default_model": "configured"}, {"model": "requested"}, {"model": "given"}, "given"),
    ],
    ids=["the only one", "config", "request", "kwargs"],
)
async def test_the_model_comes_from_the_keyword_then_the_request_then_the_config_then_the_server(
    config: dict[str, Any], fields: dict[str, Any], kwargs: dict[str, Any], model: str
) -> None:
    async with ReplayServer(ANSWER) as server, provider_at(server.base_url, **config) as provider:
        await provider.complete(request(**fields), **kwargs)

    assert server.request_bodies[0]["model"] == model


async def test_the_error_for_an_ambiguous_model_lists_the_served_models() -> None:
    two = json_reply(200, {"data": [{"id": "a"}, {"id": "b"}]})

    async with ReplayServer(models=two) as server, provider_at(server.base_url) as provider:
        with pytest.raises(ConfigurationError, match="set `default_model` to one of: a, b"):
            await provider.complete(request())


async def test_a_server_that_lists_no_models_still_answers() -> None:
    nothing = json_reply(404, {"detail": "Not Found"})

    async with (
        ReplayServer(ANSWER, models=nothing) as server,
        provider_at(server.base_url, default_model="tiny") as provider,
    ):
        await provider.complete(request())

    assert "max_output_tokens" not in server.request_bodies[0]


async def test_limits_are_requested_once_before_the_first_call() -> None:
    recorder = EventRecorder()

    async with ReplayServer(ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        await recorder.coordinator.mount("providers", provider, name="vllm")
        await on_session_ready(recorder.coordinator)
        await on_session_ready(recorder.coordinator)
        info = provider.get_model_info()
        await provider.complete(request())

    assert (info.id, info.context_window, info.max_output_tokens) == ("tiny-qwen3", 4096, 1024)
    assert [one.path for one in server.requests] == ["/v1/models", "/v1/responses"]
    assert server.request_bodies[0]["max_output_tokens"] == 2048


async def test_the_only_served_model_is_used_even_if_it_is_a_lora() -> None:
    lora = {"id": "lora", "parent": "somewhere-else", "max_model_len": 8192}
    served = json_reply(200, {"object": "list", "data": [lora]})

    async with ReplayServer(ANSWER, models=served) as server, provider_at(server.base_url) as provider:
        await provider.probe()
        info = provider.get_model_info()
        await provider.complete(request())

    assert (info.id, info.context_window) == ("lora", 8192)
    assert server.request_bodies[0]["model"] == "lora"


async def test_models_are_listed_with_their_limits() -> None:
    async with ReplayServer() as server, provider_at(server.base_url) as provider:
        (model,) = await provider.list_models()

    assert (model.id, model.context_window, model.max_output_tokens) == ("tiny-qwen3", 4096, 1024)


async def test_listing_models_fails_if_the_server_is_down() -> None:
    provider = VLLMProvider("http://127.0.0.1:1")

    with pytest.raises(NetworkError, match=r"no connection to http://127\.0\.0\.1:1/v1"):
        await provider.list_models()

    await provider.close()


async def test_the_error_for_a_wrong_key_names_the_setting_and_hides_the_key() -> None:
    router = respx.MockRouter()
    router.get("http://vllm.test/v1/models").mock(
        return_value=http_response(load_recording("tiny-qwen3-auth", "auth_basic"))
    )
    provider = VLLMProvider(client=routed_client(router).with_options(api_key="very-secret"))

    with pytest.raises(AuthenticationError) as raised:
        await provider.complete(request())

    assert str(raised.value) == "Unauthorized: the server refused the key; set `api_key` (VLLM_API_KEY)"


@pytest.mark.parametrize(
    ("history", "unanswered", "orphaned", "answer"),
    [
        (
            [QUESTION, Message(role="assistant", content=[ToolCallBlock(id="call_1", name="f", input={})])],
            ["call_1"],
            [],
            NO_RESULT,
        ),
        ([QUESTION, Message(role="tool", tool_call_id="call_9", content="sunny")], [], ["call_9"], None),
    ],
    ids=["a call without a result", "a result without a call"],
)
async def test_a_broken_history_is_repaired_on_every_call_and_reported_once(
    history: list[Message], unanswered: list[str], orphaned: list[str], answer: str | None
) -> None:
    recorder = EventRecorder()

    async with ReplayServer(ANSWER, ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        for _ in range(2):
            await provider.complete(request(*history))

    (event,) = recorder.payloads("provider:tool_sequence_repaired")
    assert (event["unanswered_calls"], event["orphaned_results"]) == (unanswered, orphaned)
    assert server.request_bodies[0] == server.request_bodies[1]
    assert server.request_bodies[0]["input"][-1].get("output") == answer


async def test_a_call_after_close_opens_a_new_connection() -> None:
    async with ReplayServer(ANSWER, ANSWER) as server, provider_at(server.base_url) as provider:
        await provider.close()
        first = await provider.complete(request())
        await provider.close()
        await provider.close()
        second = await provider.complete(request())

    assert first == second


def test_a_provider_works_in_one_event_loop_after_another() -> None:
    """Amplifier's CLI lists models in an `asyncio.run` of its own, before the session has its loop."""

    async def in_a_loop() -> list[str]:
        models = [model.id for model in await provider.list_models()]
        await provider.close()
        return models

    with serve_in_thread() as server:
        provider = VLLMProvider(server.base_url)
        listed = [asyncio.run(in_a_loop()) for _ in range(2)]

    assert listed == [["tiny-qwen3"]] * 2


@contextmanager
def serve_in_thread() -> Iterator[ReplayServer]:
    """A server in a thread, independent of the event loops of its clients."""
    server, loop = ReplayServer(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
