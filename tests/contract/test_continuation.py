"""A reply cut by our own cap is continued; a reply that ended otherwise is not."""

from typing import Any

import pytest
from amplifier_core.llm_errors import AuthenticationError
from amplifier_core.message_models import (
    ChatRequest,
    Message,
    ResponseFormatJsonSchema,
    ToolCallBlock,
    ToolSpec,
)

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import Recording, load_recording
from tests.support.replay import ReplayServer, Reply, json_reply
from tests.support.replies import call_item, cut_reply, full_reply, message_item, reasoning_item

OURS: dict[str, Any] = {"max_output_tokens": 10}
"""A cap of ours, in tokens; the caller's is a keyword, or `max_output_tokens` in the request."""

BUSY = json_reply(503, {"error": {"message": "busy"}})
OVERFLOW = load_recording("tiny-qwen3", "ctx_overflow")
UNKNOWN_STATUS = json_reply(400, {"error": {"message": "data did not match any variant of untagged enum"}})
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
    cut_item = {"type": "message", "role": "assistant", "id": f"msg_{len(first['input']) + 1}", "status": "in_progress"}
    reasoning = {"effort": "none"}
    assert second | {"input": []} == first | {"input": [], "reasoning": reasoning}
    assert second["input"][:-2] == third["input"][:-2] == first["input"]
    assert [item["type"] for item in second["input"][-2:]] == ["reasoning", "message"]
    assert second["input"][-1] == cut_item | {"content": [_part("It is sun")]}
    assert third["input"][-1] == cut_item | {"content": [_part("It is sunny in ")]}
    assert [block.text for block in response.content_blocks] == ["Sun.", "It is sunny in Paris."]
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (100, 30, 130)
    assert response.metadata["vllm:billed_tokens"] == {"input_tokens": 300, "output_tokens": 30}
    assert response.metadata["vllm:continuation_count"] == 2
    assert response.finish_reason == "stop"


async def test_a_continuation_is_retried_like_any_round() -> None:
    rounds = [cut_reply(message_item("It is sun")), BUSY, full_reply(message_item("ny."))]

    async with ReplayServer(*rounds) as server, provider_at(server.base_url, **OURS) as provider:
        response: Any = await provider.complete(REQUEST)

    assert response.text == "It is sunny."
    assert server.request_bodies[1] == server.request_bodies[2]


@pytest.mark.parametrize("then", [REFUSED, OVERFLOW, UNKNOWN_STATUS, BUSY], ids=["key", "overflow", "item", "busy"])
async def test_a_continuation_that_fails_leaves_the_reply_that_there_is(
    then: Reply | Recording, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(cut_reply(reasoning_item("Sun."), message_item("It is sun")), always=then) as server,
        provider_at(server.base_url, recorder, **OURS, max_retries=2) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    shown = recorder.events[_last(recorder, "llm:stream_aborted") :]
    assert (response.text, response.finish_reason) == ("It is sun", "length")
    assert [e.data["text"] for e in shown if e.name == "llm:stream_block_delta"] == ["Sun.", "It is sun"]
    assert [event["status"] for event in recorder.payloads("llm:response")] == ["ok"]
    assert [record.levelname for record in caplog.records if "was not continued" in record.message] == ["WARNING"]


async def test_a_continuation_that_fails_raises_if_there_is_nothing_to_keep() -> None:
    async with (
        ReplayServer(cut_reply(), always=REFUSED) as server,
        provider_at(server.base_url, **OURS) as provider,
    ):
        with pytest.raises(AuthenticationError):
            await provider.complete(REQUEST)


async def test_the_configs_cap_is_a_cap_on_each_round() -> None:
    rounds = [cut_reply(message_item("It is sun")), full_reply(message_item("ny."))]
    recorder = EventRecorder()

    async with (
        ReplayServer(*rounds) as server,
        provider_at(server.base_url, recorder, max_tokens=10) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    (continued,) = recorder.payloads("provider:incomplete_continuation")
    assert (response.text, response.finish_reason) == ("It is sunny.", "stop")
    assert [body["max_output_tokens"] for body in server.request_bodies] == [10, 10]
    assert [continued[key] for key in ("response_id", "reason", "continuation_number", "max_attempts")] == [
        "resp_1",
        "max_output_tokens",
        1,
        5,
    ]


async def test_a_reply_that_fills_the_window_is_not_continued() -> None:
    full_window = {"input_tokens": 4000, "output_tokens": 96}

    async with (
        ReplayServer(cut_reply(message_item("It is sun"), usage=full_window)) as server,
        provider_at(server.base_url) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    assert (response.text, response.finish_reason, len(server.request_bodies)) == ("It is sun", "length", 1)


async def test_a_reply_bound_by_a_schema_is_not_joined_but_requested_once_more_with_all_the_room() -> None:
    schema = ResponseFormatJsonSchema(json_schema={"name": "city", "schema": {"type": "object"}})
    request = ChatRequest(messages=HISTORY, response_format=schema)
    rounds = [cut_reply(message_item('{"city": "Par')), cut_reply(message_item('{"city": "Paris, the'))]

    async with ReplayServer(*rounds) as server, provider_at(server.base_url, **OURS) as provider:
        response: Any = await provider.complete(request)

    first, second = server.request_bodies
    assert second == first | {"max_output_tokens": 4096 - 100}
    assert (response.text, response.finish_reason) == ('{"city": "Paris, the', "length")


@pytest.mark.parametrize(
    ("config", "fields"),
    [({}, {"max_output_tokens": 10}), ({"max_continuations": 0, **OURS}, {})],
    ids=["request", "turned off"],
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


def _last(recorder: EventRecorder, name: str) -> int:
    return len(recorder.names) - 1 - recorder.names[::-1].index(name)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}
