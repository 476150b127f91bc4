"""Requests and replies, call by call, compared with the server's raw ones."""

import pytest
from amplifier_core.message_models import ChatRequest, Usage

from amplifier_module_provider_vllm import VLLMProvider
from tests.live.endpoints import at_every_endpoint
from tests.rig.replies import call_ids_of, counts_of
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

CAPS = {"responses": "max_output_tokens", "chat": "max_completion_tokens", "completions": "max_tokens"}


@at_every_endpoint
async def test_reasoning_and_answer_are_separate_blocks(provider: VLLMProvider) -> None:
    response = await provider.complete(CAPITAL)

    assert block_contents(response) == [
        ("thinking", "The user asks for the capital of France. It is Paris."),
        ("text", "The capital of France is Paris."),
    ]
    assert response.finish_reason == "stop"


@at_every_endpoint
async def test_a_tool_call_has_the_servers_id_and_its_result_leads_to_the_answer(
    server: LiveServer, endpoint: str
) -> None:
    async with Tap(server.base_url, endpoint) as tap, open_provider(tap.base_url, endpoint=endpoint) as provider:
        call_reply = await provider.complete(WEATHER)
        response = await provider.complete(with_tool_results(WEATHER, call_reply, "sunny, 21 C"))

    assert block_contents(call_reply) == [
        ("thinking", "I should look up the weather in Paris."),
        ("get_weather", {"city": "Paris"}),
    ]
    assert call_reply.finish_reason == "tool_calls"
    if endpoint != "completions":  # whose calls are text, without ids
        assert [call.id for call in provider.parse_tool_calls(call_reply)] == call_ids_of(tap.replies[0])
    assert block_contents(response) == [
        ("thinking", "The tool says sunny and 21."),
        ("text", "It is sunny and 21 degrees in Paris."),
    ]


@at_every_endpoint
async def test_parallel_calls_have_different_ids_and_both_results_are_used(qwen: LiveServer, endpoint: str) -> None:
    async with open_provider(qwen.base_url, endpoint=endpoint) as provider:
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


@at_every_endpoint
async def test_a_preamble_stands_between_the_reasoning_and_the_call(provider: VLLMProvider) -> None:
    request = user("Say what you do, then check the weather in Paris.", *(WEATHER.tools or []))

    response = await provider.complete(request)

    assert block_contents(response) == [
        ("thinking", "I should look up the weather in Paris."),
        ("text", "I will check the weather."),
        ("get_weather", {"city": "Paris"}),
    ]


@at_every_endpoint
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
async def test_streamed_and_unstreamed_replies_are_equal(
    server: LiveServer, endpoint: str, provider: VLLMProvider, question: ChatRequest
) -> None:
    streamed = await provider.complete(question)
    whole = await provider.complete(question.model_copy(update={"metadata": {"stream": False}}))

    told, also_told = comparable(streamed), comparable(whole)
    if endpoint == "completions" and server.model == "tiny-qwen3":
        # The reasoning's share of an unstreamed text is estimated: its token ids are those of the whole.
        exact, estimated = told["usage"].pop("reasoning_tokens"), also_told["usage"].pop("reasoning_tokens")
        assert 0 not in (exact, estimated)
        assert max(exact, estimated) < told["usage"]["output_tokens"]
    assert told == also_told


@at_every_endpoint
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_usage_equals_the_servers_counts(server: LiveServer, endpoint: str, stream: bool) -> None:
    config = {"endpoint": endpoint, "use_streaming": stream}
    async with Tap(server.base_url, endpoint) as tap, open_provider(tap.base_url, **config) as provider:
        response = await provider.complete(WEATHER)

    counted = counts_of(tap.replies[0])
    assert response.usage is not None
    assert response.usage == Usage(
        input_tokens=counted.input,
        output_tokens=counted.output,
        total_tokens=counted.input + counted.output,
        # At completions the server does not tell reasoning from text.
        reasoning_tokens=response.usage.reasoning_tokens if endpoint == "completions" else counted.reasoning,
        cache_read_tokens=counted.cached,
    )
    assert 0 not in (response.usage.input_tokens, response.usage.output_tokens, response.usage.reasoning_tokens)


@at_every_endpoint
async def test_keyword_settings_override_the_request_and_the_config(server: LiveServer, endpoint: str) -> None:
    extra = {"metadata": {"for": "us"}}
    config = {"temperature": 0.7, "max_tokens": 900, "extra_request_params": extra, "endpoint": endpoint}
    request = user("What is the capital of France?", temperature=0.5, max_output_tokens=800)

    async with Tap(server.base_url, endpoint) as tap, open_provider(tap.base_url, **config) as provider:
        await provider.complete(request, temperature=0)

    # Of the endpoints only /v1/responses repeats the settings in its reply.
    ((asked, reply),) = tap.exchanges
    shown = reply if endpoint == "responses" else asked
    names = ("temperature", CAPS[endpoint], "metadata")
    assert [shown[name] for name in names] == [0, 800, {"for": "us"}]
