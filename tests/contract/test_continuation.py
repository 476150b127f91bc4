"""A reply cut by our own cap is continued; a reply that ended otherwise is not."""

from typing import Any

import pytest
from amplifier_core.llm_errors import AuthenticationError, ProviderUnavailableError
from amplifier_core.message_models import ChatRequest, Message, ToolCallBlock, ToolSpec

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, json_reply
from tests.support.replies import call_item, cut_reply, full_reply, message_item, reasoning_item

OURS: dict[str, Any] = {"max_output_tokens": 10}
"""A cap of ours, in tokens; the caller's is `max_tokens`, or `max_output_tokens` in the request."""

BUSY = json_reply(503, {"error": {"message": "busy"}})
REFUSED = load_recording("tiny-qwen3-auth", "auth_wrong")
HISTORY = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="What is the weather in Paris?"),
    Message(role="assistant", content=[ToolCallBlock(id="call_0", name="get_weather", input={"city": "Paris"})]),
    Message(role="tool", tool_call_id="call_0", content="sunny"),
]
REQUEST = ChatRequest(messages=HISTORY, tools=[ToolSpec(name="get_weather", parameters={})], temperature=0)


async def test_a_continuation_repeats_the_request_with_a_longer_input_and_sums_the_usage_of_all_rounds() -> None:
    rounds = [
        cut_reply(reasoning_item("Sun."), message_item("It is sun")),
        cut_reply(message_item("ny in ")),
        full_reply(message_item("Paris.")),
    ]

    async with ReplayServer(*rounds) as server, provider_at(server.base_url, **OURS) as provider:
        response: Any = await provider.complete(REQUEST)

    first, second, third = server.request_bodies
    cut_item = {"type": "message", "role": "assistant", "id": f"msg_{len(first['input']) + 1}", "status": "incomplete"}
    reasoning = {"effort": "none"}
    assert second | {"input": []} == first | {"input": [], "reasoning": reasoning}
    assert second["input"][:-2] == third["input"][:-2] == first["input"]
    assert [item["type"] for item in second["input"][-2:]] == ["reasoning", "message"]
    assert second["input"][-1] == cut_item | {"content": [_part("It is sun")]}
    assert third["input"][-1] == cut_item | {"content": [_part("It is sunny in ")]}
    assert [block.text for block in response.content_blocks] == ["Sun.", "It is sunny in Paris."]
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (300, 30, 330)
    assert response.finish_reason == "stop"


async def test_a_continuation_is_retried_like_any_round() -> None:
    rounds = [cut_reply(message_item("It is sun")), BUSY, full_reply(message_item("ny."))]

    async with ReplayServer(*rounds) as server, provider_at(server.base_url, **OURS) as provider:
        response: Any = await provider.complete(REQUEST)

    assert response.text == "It is sunny."
    assert server.request_bodies[1] == server.request_bodies[2]


@pytest.mark.parametrize(
    ("then", "error"),
    [pytest.param(REFUSED, AuthenticationError, id="refused"), pytest.param(BUSY, ProviderUnavailableError, id="busy")],
)
async def test_a_failed_continuation_raises_and_returns_no_partial_answer(then: Any, error: type[Exception]) -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(cut_reply(message_item("It is sun")), always=then) as server,
        provider_at(server.base_url, recorder, **OURS, max_retries=2) as provider,
    ):
        with pytest.raises(error):
            await provider.complete(REQUEST)

    assert [event["status"] for event in recorder.payloads("llm:response")] == ["error"]


@pytest.mark.parametrize(
    ("config", "fields"),
    [({"max_tokens": 10}, {}), ({}, {"max_output_tokens": 10}), ({"max_continuations": 0, **OURS}, {})],
    ids=["config", "request", "turned off"],
)
async def test_a_reply_cut_by_the_callers_cap_is_not_continued(config: dict[str, Any], fields: dict[str, Any]) -> None:
    request = REQUEST.model_copy(update=fields)

    async with (
        ReplayServer(cut_reply(message_item("It is sun"))) as server,
        provider_at(server.base_url, **config) as provider,
    ):
        response: Any = await provider.complete(request)

    assert (response.text, response.finish_reason, len(server.request_bodies)) == ("It is sun", "length", 1)


async def test_a_filtered_reply_is_not_continued() -> None:
    async with (
        ReplayServer(cut_reply(message_item("It is"), reason="content_filter")) as server,
        provider_at(server.base_url, **OURS) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    assert (response.text, response.finish_reason, len(server.request_bodies)) == ("It is", "content_filter", 1)


@pytest.mark.parametrize(
    "output", [[reasoning_item("I wond")], [call_item('{"ci')], []], ids=["thought", "call", "nothing"]
)
async def test_a_reply_that_cannot_be_continued_is_requested_once_more_with_the_full_output_budget(
    output: list[dict[str, Any]],
) -> None:
    last = full_reply(reasoning_item("I wonder."), message_item("It is sunny."))

    async with ReplayServer(cut_reply(*output), last) as server, provider_at(server.base_url, **OURS) as provider:
        response: Any = await provider.complete(REQUEST)

    first, second = server.request_bodies
    assert second == first | {"max_output_tokens": 4096 - 100}
    assert (response.text, response.tool_calls, response.finish_reason) == ("It is sunny.", None, "stop")


async def test_continuation_stops_without_progress_or_after_the_last_round() -> None:
    endless = cut_reply(message_item("again "))

    async with ReplayServer(always=endless) as server, provider_at(server.base_url, **OURS) as provider:
        response: Any = await provider.complete(REQUEST)

    assert (response.text, response.finish_reason) == ("again " * 6, "length")
    assert len(server.request_bodies) == 6


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}
