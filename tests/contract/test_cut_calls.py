"""A call truncated by our own cap after a text: the text is kept, the call requested again and run once."""

import logging
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, Message, ToolSpec

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.replay import ReplayServer
from tests.support.replies import call_item, cut_reply, full_reply, message_item, reasoning_item

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
REQUEST = ChatRequest(
    messages=[Message(role="user", content="Say what you do, then check the weather in Paris.")],
    tools=[ToolSpec(name="get_weather", parameters=CITY)],
)
MARKUP = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


@pytest.mark.parametrize(
    "second",
    [
        pytest.param([message_item("check."), call_item('{"ci')], id="as a call"),
        pytest.param([call_item("")], id="as an empty call"),
        pytest.param([message_item(f"check.\n{MARKUP[:40]}")], id="as markup"),
    ],
)
async def test_text_before_a_call_truncated_in_a_later_round_is_kept(second: list[dict[str, Any]]) -> None:
    recorder = EventRecorder()
    first = cut_reply(reasoning_item("Paris."), message_item("I will "))
    last = full_reply(message_item("check."), call_item('{"city": "Paris"}'))

    async with (
        ReplayServer(first, cut_reply(*second), last) as server,
        provider_at(server.base_url, recorder, max_output_tokens=10) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    texts = [block.text for block in response.content_blocks if block.type.value != "tool_call"]
    assert texts == ["Paris.", "I will check."]
    assert [(one.name, one.arguments) for one in response.tool_calls] == [("get_weather", {"city": "Paris"})]
    assert (response.finish_reason, response.usage.output_tokens) == ("tool_calls", 30)
    assert [asked["max_output_tokens"] for asked in server.request_bodies] == [10, 10, 3996]
    assert server.request_bodies[1]["input"] == server.request_bodies[2]["input"]
    assert _streamed_texts(recorder) == {0: "Paris.", 1: "I will check."}


async def test_truncated_call_markup_is_requested_again_without_a_warning_about_flags(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = cut_reply(reasoning_item("Paris."), message_item(f"I will check.\n{MARKUP[:40]}"))
    last = full_reply(reasoning_item("Paris."), message_item("I will check."), call_item('{"city": "Paris"}'))

    async with ReplayServer(first, last) as server, provider_at(server.base_url, max_output_tokens=10) as provider:
        response: Any = await provider.complete(REQUEST)

    asked, again = server.request_bodies
    assert again == asked | {"max_output_tokens": 3996}
    assert [block.type for block in response.content] == ["thinking", "text", "tool_call"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def _streamed_texts(recorder: EventRecorder) -> dict[int, str]:
    shown: dict[int, str] = {}
    for event in recorder.events:
        if event.name == "llm:stream_aborted":
            shown.clear()
        if event.name == "llm:stream_block_delta":
            shown[event.data["block_index"]] = shown.get(event.data["block_index"], "") + event.data["text"]
    return shown
