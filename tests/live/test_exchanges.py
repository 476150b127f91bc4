"""Requests and replies, call by call, compared with the server's raw ones."""

import pytest
from amplifier_core.message_models import ChatRequest, Usage

from amplifier_module_provider_vllm import VLLMProvider
from tests.rig.server import LiveServer
from tests.rig.tap import Tap
from tests.support.exchange import (
    CAPITAL,
    COUNT,
    TWO_WEATHERS,
    WEATHER,
    block_contents,
    comparable,
    open_provider,
    user,
    with_tool_results,
)

pytestmark = pytest.mark.live


async def test_reasoning_and_answer_are_separate_blocks(provider: VLLMProvider) -> None:
    response = await provider.complete(CAPITAL)

    assert block_contents(response) == [
        ("thinking", "The user asks for the capital of France. It is Paris."),
        ("text", "The capital of France is Paris."),
    ]
    assert response.finish_reason == "stop"


async def test_a_tool_call_has_the_servers_id_and_its_result_leads_to_the_answer(server: LiveServer) -> None:
    async with Tap(server.base_url) as tap, open_provider(tap.base_url) as provider:
        call_reply = await provider.complete(WEATHER)
        response = await provider.complete(with_tool_results(WEATHER, call_reply, "sunny, 21 C"))

    wired = [item["call_id"] for item in tap.replies[0]["output"] if item["type"] == "function_call"]
    assert block_contents(call_reply) == [
        ("thinking", "I should look up the weather in Paris."),
        ("get_weather", {"city": "Paris"}),
    ]
    assert call_reply.finish_reason == "tool_calls"
    assert [call.id for call in provider.parse_tool_calls(call_reply)] == wired
    assert block_contents(response) == [
        ("thinking", "The tool says sunny and 21."),
        ("text", "It is sunny and 21 degrees in Paris."),
    ]


async def test_parallel_calls_have_different_ids_and_both_results_are_used(qwen: LiveServer) -> None:
    async with open_provider(qwen.base_url) as provider:
        call_reply = await provider.complete(TWO_WEATHERS)
        response = await provider.complete(with_tool_results(TWO_WEATHERS, call_reply, "sunny, 21 C", "rainy, 12 C"))

    assert block_contents(call_reply) == [
        ("thinking", "I need the weather in Paris and London."),
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "London"}),
    ]
    assert len({call.id for call in provider.parse_tool_calls(call_reply)}) == 2
    assert block_contents(response) == [
        ("thinking", "Both results are here."),
        ("text", "I have the weather of both cities."),
    ]


async def test_a_preamble_stands_between_the_reasoning_and_the_call(provider: VLLMProvider) -> None:
    request = user("Say what you do, then check the weather in Paris.", *(WEATHER.tools or []))

    response = await provider.complete(request)

    assert block_contents(response) == [
        ("thinking", "I should look up the weather in Paris."),
        ("text", "I will check the weather."),
        ("get_weather", {"city": "Paris"}),
    ]


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(CAPITAL, id="answer"),
        pytest.param(WEATHER, id="call"),
        pytest.param(TWO_WEATHERS, id="several-calls"),
        pytest.param(COUNT, id="long-answer"),
        pytest.param(user("Count from 1 to 100.", max_output_tokens=60), id="cut-answer"),
    ],
)
async def test_streamed_and_unstreamed_replies_are_equal(provider: VLLMProvider, question: ChatRequest) -> None:
    streamed = await provider.complete(question)
    whole = await provider.complete(question.model_copy(update={"metadata": {"stream": False}}))

    assert comparable(streamed) == comparable(whole)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_usage_equals_the_servers_counts(server: LiveServer, stream: bool) -> None:
    async with Tap(server.base_url) as tap, open_provider(tap.base_url, use_streaming=stream) as provider:
        response = await provider.complete(WEATHER)

    counted = tap.replies[0]["usage"]
    assert response.usage == Usage(
        input_tokens=counted["input_tokens"],
        output_tokens=counted["output_tokens"],
        total_tokens=counted["total_tokens"],
        reasoning_tokens=counted["output_tokens_details"]["reasoning_tokens"],
        cache_read_tokens=counted["input_tokens_details"]["cached_tokens"],
    )
    assert 0 not in (response.usage.input_tokens, response.usage.output_tokens, response.usage.reasoning_tokens)


async def test_keyword_settings_override_the_request_and_the_config(server: LiveServer) -> None:
    config = {"temperature": 0.7, "max_tokens": 900, "extra_request_params": {"metadata": {"for": "us"}}}
    request = user("What is the capital of France?", temperature=0.5, max_output_tokens=800)

    async with Tap(server.base_url) as tap, open_provider(tap.base_url, **config) as provider:
        await provider.complete(request, temperature=0)

    shown = {key: tap.replies[0][key] for key in ("temperature", "max_output_tokens", "metadata")}
    assert shown == {"temperature": 0, "max_output_tokens": 800, "metadata": {"for": "us"}}
