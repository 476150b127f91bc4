"""The token budget that a session gets before a call."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import respx
from amplifier_core.message_models import ChatRequest, ImageBlock, Message, ThinkingBlock, ToolCallBlock, ToolSpec

from amplifier_module_provider_vllm import VLLMProvider, _budget
from amplifier_module_provider_vllm._harmony.count import count_input
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary, shared_vocabulary
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, reply
from tests.support.requests import ask_of
from tests.support.routes import routed_client
from tests.support.vocabulary import vocabulary_folder

HOST = "http://vllm.test"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
MESSAGES = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="What is the weather in Paris?"),
    Message(
        role="assistant",
        content=[
            ThinkingBlock(thinking="I should look."),
            ToolCallBlock(id="call_1", name="get_weather", input={"city": "Paris"}),
        ],
    ),
    Message(role="tool", tool_call_id="call_1", content="sunny"),
]
REQUEST = ChatRequest(messages=MESSAGES, tools=[ToolSpec(name="get_weather", description="Weather.", parameters=CITY)])
TOO_LATE = 0.05


@pytest.fixture(autouse=True)
def _fresh_vocabulary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))
    shared_vocabulary.cache_clear()
    yield
    shared_vocabulary.cache_clear()


class Counter:
    """A server with one model of 4096 tokens that counts at the given paths."""

    def __init__(self, model: str, **counts: httpx.Response | Exception) -> None:
        self.router = respx.MockRouter(assert_all_called=False)
        card = {"id": model, "max_model_len": 4096}
        self.router.get(f"{HOST}/v1/models").mock(return_value=httpx.Response(200, json={"data": [card]}))
        self.tokenize = self._route("/tokenize", counts.get("tokenize"))
        self.count_tokens = self._route("/v1/messages/count_tokens", counts.get("count_tokens"))

    def _route(self, path: str, answer: httpx.Response | Exception | None) -> respx.Route:
        route = self.router.post(f"{HOST}{path}")
        if isinstance(answer, Exception):
            return route.mock(side_effect=answer)
        return route.mock(return_value=answer or httpx.Response(404, json={"detail": "Not Found"}))

    async def budget(self, request: ChatRequest = REQUEST, **kwargs: Any) -> dict[str, Any] | None:
        async with routed_client(self.router, f"{HOST}/v1") as client:
            provider = VLLMProvider(client=client)
            return await provider.request_budget(request, **{"context_estimate": 80, **kwargs})


def tokens(count: int) -> httpx.Response:
    return httpx.Response(200, json={"count": count, "max_model_len": 4096, "tokens": []})


def input_tokens(count: int) -> httpx.Response:
    return httpx.Response(200, json={"input_tokens": count})


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """A server that accepts connections and never answers."""
    async with ReplayServer(
        models=reply(load_recording("tiny-qwen3", "get_v1_models"), cut_at=0, ending="stall")
    ) as server:
        yield server.base_url


def last_body(route: respx.Route) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(route.calls.last.request.content)
    return body


async def test_a_model_with_a_chat_template_is_counted_by_rendering_its_template() -> None:
    server = Counter("qwen", tokenize=tokens(100), count_tokens=input_tokens(1))

    budget = await server.budget()

    assert budget == {
        "estimated_input_tokens": 100,
        "input_limit_tokens": 3072,
        "context_token_budget": 3052,
        "max_output_tokens": 1024,
        "measurement": {"kind": "provider_count", "source": "vllm:/tokenize", "input_tokens": 100},
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    function = {"name": "get_weather", "description": "Weather.", "parameters": CITY}
    assert last_body(server.tokenize) == {
        "model": "qwen",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is the weather in Paris?"},
            {"role": "assistant", "reasoning": "I should look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
        "chat_template_kwargs": {},
        "tools": [{"type": "function", "function": function}],
    }


async def test_gpt_oss_is_counted_where_the_server_uses_harmony() -> None:
    server = Counter("gpt-oss", tokenize=tokens(1), count_tokens=input_tokens(100))

    budget = await server.budget(REQUEST.model_copy(update={"reasoning_effort": "high"}))

    assert budget is not None
    assert budget["measurement"]["source"] == "vllm:/v1/messages/count_tokens"
    assert last_body(server.count_tokens) == {
        "model": "gpt-oss",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is the weather in Paris?"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "I should look."}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]},
        ],
        "chat_template_kwargs": {},
        "system": "Be brief.",
        "output_config": {"effort": "high"},
        "tools": [{"name": "get_weather", "input_schema": CITY, "description": "Weather."}],
    }


async def test_gpt_oss_is_counted_locally_if_the_server_cannot() -> None:
    shared_vocabulary().load()  # a busy machine may need more than the budget's 3 s for it
    budget = await Counter("gpt-oss").budget()

    encoding = Vocabulary(vocabulary_folder()).load()
    assert encoding is not None
    ask = ask_of(*MESSAGES, request={"tools": REQUEST.tools}, harmony=True)
    assert budget is not None
    assert budget["measurement"] == {
        "kind": "provider_count",
        "source": "openai-harmony",
        "input_tokens": count_input(encoding, ask),
    }


async def test_calls_that_the_endpoint_would_escape_are_counted_locally() -> None:
    call = ToolCallBlock(id="call_1", name="get_weather", input={"city": "東京"})
    called = Message(role="assistant", content=[call])
    result = Message(role="tool", tool_call_id="call_1", content="sunny")
    server = Counter("gpt-oss", count_tokens=input_tokens(100))
    shared_vocabulary().load()  # a busy machine may need more than the budget's 3 s for it

    budget = await server.budget(ChatRequest(messages=[MESSAGES[1], called, result]))

    assert budget is not None
    assert budget["measurement"]["source"] == "openai-harmony"


async def test_a_gateway_without_tokenize_is_asked_at_the_other_counting_endpoint() -> None:
    server = Counter("qwen", count_tokens=input_tokens(100))

    budget = await server.budget()

    assert budget is not None
    assert budget["measurement"]["source"] == "vllm:/v1/messages/count_tokens"
    roles = [(message["role"], len(message["content"])) for message in last_body(server.count_tokens)["messages"]]
    assert roles == [("user", 1), ("assistant", 2), ("user", 1)]


@pytest.mark.parametrize(
    ("estimate", "counted", "fits"),
    [(3000, 3072, True), (3000, 3073, False), (90, 100, True), (3500, 3072, True)],
    ids=["just", "just not", "amply", "overestimated"],
)
async def test_the_estimate_is_within_the_budget_if_and_only_if_the_request_fits(
    estimate: int, counted: int, fits: bool
) -> None:
    budget = await Counter("qwen", tokenize=tokens(counted)).budget(context_estimate=estimate)

    assert budget is not None
    assert (estimate <= budget["context_token_budget"]) is fits


async def test_the_configured_options_of_the_call_are_counted() -> None:
    server = Counter("qwen", tokenize=tokens(100))

    budget = await server.budget(request_options={"max_output_tokens": 96, "extended_thinking": False})

    assert budget is not None
    assert (budget["max_output_tokens"], budget["input_limit_tokens"]) == (96, 4000)
    assert last_body(server.tokenize)["chat_template_kwargs"] == {"reasoning_effort": "none", "enable_thinking": False}


async def test_images_are_sent_to_be_counted() -> None:
    server = Counter("qwen", tokenize=tokens(100))
    picture = ImageBlock(source={"type": "base64", "media_type": "image/png", "data": "AAAA"})

    await server.budget(ChatRequest(messages=[Message(role="user", content=[picture])]))

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert last_body(server.tokenize)["messages"] == [{"role": "user", "content": [image]}]


UNREADABLE = {
    "no endpoint": {},
    "odd answer": {"tokenize": httpx.Response(200, json=["?"]), "count_tokens": httpx.Response(200, json={})},
    "no JSON": {"tokenize": httpx.Response(200, text="<html>"), "count_tokens": httpx.Response(200, text="")},
    "refused": {"tokenize": httpx.Response(401, json={"error": "Unauthorized"})},
    "broken": {"tokenize": httpx.ConnectError("gone"), "count_tokens": httpx.ReadError("gone")},
}


@pytest.mark.parametrize("counts", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_without_a_count_there_is_no_budget(counts: dict[str, httpx.Response | Exception]) -> None:
    assert await Counter("qwen", **counts).budget() is None


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (ChatRequest(messages=[]), {}),
        (REQUEST, {"reasoning": {"effort": "enormous"}}),
        (REQUEST, {"max_output_tokens": "many"}),
        (REQUEST, {"extra_headers": 7}),
    ],
    ids=["nothing to send", "no effort", "no number", "no headers"],
)
async def test_a_request_that_cannot_be_encoded_has_no_budget(request_: ChatRequest, options: dict[str, Any]) -> None:
    assert await Counter("qwen", tokenize=tokens(100)).budget(request_, request_options=options) is None


async def test_counting_does_not_wait_for_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_budget, "PROBE_TIMEOUT", TOO_LATE)
    async with silent_server() as base_url:
        provider = VLLMProvider(base_url)

        assert await provider.request_budget(REQUEST, context_estimate=80) is None

        await provider.close()


async def test_cancelling_a_count_propagates() -> None:
    async with silent_server() as base_url:
        provider = VLLMProvider(base_url)
        question = asyncio.create_task(provider.request_budget(REQUEST, context_estimate=80))
        await asyncio.sleep(TOO_LATE)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question

        await provider.close()
