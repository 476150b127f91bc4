"""A reply cut by our own cap is completed; one cut by the caller's cap ends there."""

import asyncio
import json
from typing import Any

import pytest
from amplifier_core.llm_errors import AbortError
from amplifier_core.message_models import ResponseFormatJsonSchema

from amplifier_module_provider_vllm import CallKeywords, VLLMProvider
from tests.live.endpoints import at_every_endpoint, with_token_ids
from tests.rig.replies import counts_of
from tests.rig.server import LiveServer
from tests.rig.tap import Tap
from tests.support.exchange import CAPITAL, COUNT, WEATHER, block_contents, mounted_provider, open_provider, user
from tests.support.session import Session, open_session, vllm

pytestmark = pytest.mark.live

CAP = 120
"""In tokens; the full count takes 390 on Qwen3 and 300 on gpt-oss."""

COUNTED = ", ".join(str(number) for number in range(1, 101))

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


@both_ways
@pytest.mark.parametrize("key", ["max_tokens", "max_output_tokens"])
async def test_a_continued_count_equals_the_uncut_count(
    server: LiveServer, endpoint: str, stream: bool, key: str
) -> None:
    config: dict[str, Any] = {"endpoint": endpoint, "use_streaming": stream}
    async with open_provider(server.base_url, **config) as whole:
        uncut = await whole.complete(COUNT)
    async with open_provider(server.base_url, **config, **{key: CAP}) as capped:
        response = await capped.complete(COUNT)

    assert COUNTED in block_contents(uncut)[-1][1]
    assert _texts(response) == _texts(uncut)
    assert response.finish_reason == uncut.finish_reason == "stop"


@at_every_endpoint
async def test_the_stream_of_a_continued_reply_equals_its_response(server: LiveServer, endpoint: str) -> None:
    plan = vllm(server.base_url, temperature=0, endpoint=endpoint, max_output_tokens=CAP)
    async with open_session(plan) as session:
        response: Any = await mounted_provider(session).complete(COUNT)

    assert _streamed_texts(session) == {index: block.text for index, block in enumerate(response.content_blocks)}
    assert [event.name for event in session.events if event.name in ("llm:request", "llm:response")] == [
        "llm:request",
        "llm:response",
    ]


@both_ways
async def test_usage_is_the_last_prompt_and_the_output_of_all_rounds(server: LiveServer, stream: bool) -> None:
    config = {"endpoint": "responses", "max_output_tokens": CAP, "use_streaming": stream}
    async with Tap(server.base_url) as tap, open_provider(tap.base_url, **config) as provider:
        response = await provider.complete(COUNT)

    rounds = [counts_of(reply) for reply in tap.replies]
    usage = response.usage
    assert len(rounds) > 1
    assert usage is not None
    output = sum(one.output for one in rounds)
    billed = {"input_tokens": sum(one.input for one in rounds), "output_tokens": output}
    assert (usage.input_tokens, usage.output_tokens) == (rounds[-1].input, output)
    assert response.metadata is not None
    assert response.metadata["vllm:billed_tokens"] == billed
    assert usage.reasoning_tokens == sum(one.reasoning or 0 for one in rounds)
    assert usage.cache_read_tokens == rounds[-1].cached


@with_token_ids
@both_ways
async def test_usage_counts_each_token_once_where_a_reply_goes_on_by_its_token_ids(
    server: LiveServer, endpoint: str, stream: bool
) -> None:
    config = {"endpoint": endpoint, "max_output_tokens": CAP, "use_streaming": stream}
    async with Tap(server.base_url, endpoint, "completions") as tap, open_provider(tap.base_url, **config) as provider:
        response = await provider.complete(COUNT)

    rounds = [counts_of(reply) for reply in tap.replies]
    usage = response.usage
    assert len(rounds) > 1
    assert usage is not None
    output = sum(one.output for one in rounds)
    assert [one.input for one in rounds[1:]] == [rounds[0].input + number * CAP for number in range(1, len(rounds))]
    assert (usage.input_tokens, usage.output_tokens) == (rounds[0].input, output)
    assert response.metadata is not None
    assert response.metadata["vllm:billed_tokens"] == {
        "input_tokens": sum(one.input for one in rounds),
        "output_tokens": output,
    }


@both_ways
@pytest.mark.parametrize("capped_by", ["request", "call"])
async def test_a_reply_cut_by_the_callers_cap_is_not_continued(
    server: LiveServer, endpoint: str, capped_by: str, stream: bool
) -> None:
    config: dict[str, Any] = {"endpoint": endpoint, "use_streaming": stream}
    request = COUNT.model_copy(update={"max_output_tokens": CAP}) if capped_by == "request" else COUNT
    overrides: CallKeywords = {"max_output_tokens": CAP} if capped_by == "call" else {}

    async with Tap(server.base_url, endpoint) as tap, open_provider(tap.base_url, **config) as provider:
        response = await provider.complete(request, **overrides)

    assert [counts_of(reply).output for reply in tap.replies] == [CAP]
    assert response.finish_reason == "length"
    assert COUNTED.startswith(str(block_contents(response)[-1][1]).removesuffix(","))


@both_ways
@pytest.mark.parametrize("cap", [12, 20, 24, 28])
async def test_a_truncated_call_is_never_run(provider: VLLMProvider, cap: int, stream: bool) -> None:
    request = WEATHER.model_copy(update={"max_output_tokens": cap, "metadata": {"stream": stream}})

    response = await provider.complete(request)

    calls = [(call.name, call.arguments) for call in provider.parse_tool_calls(response)]
    assert (calls, response.finish_reason) in (
        ([], "length"),
        ([("get_weather", {"city": "Paris"})], "tool_calls"),
    )


@both_ways
@pytest.mark.parametrize("cap", [6, 13, 16, 19, 25, 31])
async def test_a_tool_turn_is_complete_wherever_our_cap_cuts_it(
    server: LiveServer, endpoint: str, cap: int, stream: bool
) -> None:
    """In the reasoning, before, in and after the text, and in the call."""
    request = user("Say what you do, then check the weather in Paris.", *(WEATHER.tools or []))
    config: dict[str, Any] = {"temperature": 0, "endpoint": endpoint, "use_streaming": stream}

    async with open_session(vllm(server.base_url, **config)) as session:
        uncut = await mounted_provider(session).complete(request)
    async with open_session(vllm(server.base_url, **config, max_output_tokens=cap)) as session:
        response: Any = await mounted_provider(session).complete(request)

    texts = {
        index: block.text for index, block in enumerate(response.content_blocks) if block.type.value != "tool_call"
    }
    assert block_contents(response) == block_contents(uncut)
    assert response.finish_reason == uncut.finish_reason == "tool_calls"
    assert _streamed_texts(session) == (texts if stream else {})


@at_every_endpoint
@both_ways
@pytest.mark.parametrize("cap", [4, 9])
async def test_a_schema_bound_reply_is_whole_although_our_cap_cuts_it(
    server: LiveServer, endpoint: str, cap: int, stream: bool
) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris"]}}, "required": ["city"]}
    bound = ResponseFormatJsonSchema(json_schema={"name": "city", "schema": schema})
    request = CAPITAL.model_copy(update={"response_format": bound})

    config = {"endpoint": endpoint, "use_streaming": stream, "max_output_tokens": cap}
    async with open_provider(server.base_url, **config) as provider:
        response: Any = await provider.complete(request)

    assert json.loads(response.text) == {"city": "Paris"}
    assert response.finish_reason == "stop"


@at_every_endpoint
async def test_a_cancelled_session_ends_its_call_and_answers_the_next_question(
    server: LiveServer, endpoint: str
) -> None:
    begun = asyncio.Event()

    def notice(name: str, _data: object) -> None:
        if name == "llm:stream_block_delta":
            begun.set()

    plan = vllm(server.base_url, temperature=0, endpoint=endpoint)
    async with open_session(plan, listener=notice) as session:
        question = asyncio.create_task(session.ask("Count from 1 to 100."))
        await begun.wait()
        session.coordinator.cancellation.request_immediate()
        with pytest.raises(AbortError):
            await question
        session.coordinator.cancellation.reset()
        answer = await session.ask("What is the capital of France?")

    assert answer.strip() == "The capital of France is Paris."
    assert [data["status"] for data in session.payloads("llm:response")] == ["cancelled", "ok"]


def _texts(response: Any) -> list[str]:
    """The raw texts, with the whitespace that Qwen's template adds."""
    return [block.text for block in response.content_blocks]


def _streamed_texts(session: Session) -> dict[int, str]:
    """The final text of each block in a UI, which discards aborted streams."""
    shown: dict[int, str] = {}
    for event in session.events:
        match event.name:
            case "llm:stream_aborted":
                shown.clear()
            case "llm:stream_block_delta":
                index = event.data["block_index"]
                shown[index] = shown.get(index, "") + event.data["text"]
    return shown
