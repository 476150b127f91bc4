"""Servers without parser flags leave calls in the text: the session gets calls, and the operator a warning."""

import logging
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, Message, ToolSpec

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = ToolSpec(name="get_weather", parameters=CITY)
KINDS = {"text": "text", "thinking": "thinking", "tool_call": "tool_use"}


def question(*tools: ToolSpec) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content="What is the weather in Paris?")], tools=list(tools))


async def test_a_call_found_in_the_text_aborts_the_stream_and_streams_it_again_with_the_call() -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(load_recording("tiny-qwen3-bare", "bare_tool_stream")) as server,
        provider_at(server.base_url, recorder) as provider,
    ):
        response: Any = await provider.complete(question(WEATHER))

    after = recorder.names[recorder.names.index("llm:stream_aborted") :]
    starts = recorder.payloads("llm:stream_block_start")[-len(response.content_blocks) :]
    deltas = recorder.payloads("llm:stream_block_delta")[-1:]
    assert [call.arguments for call in response.tool_calls] == [{"city": "Paris"}]
    assert [(start["block_index"], start["block_type"]) for start in starts] == [
        (index, KINDS[block.type.value]) for index, block in enumerate(response.content_blocks)
    ]
    assert [delta["text"] for delta in deltas] == [response.text]
    assert after.count("llm:stream_block_start") == after.count("llm:stream_block_end") == 2


async def test_one_warning_names_the_flag_for_any_number_of_calls(caplog: pytest.LogCaptureFixture) -> None:
    replies = [
        load_recording("tiny-qwen3-bare", case) for case in ("bare_tool_stream", "bare_parallel_stream", "bare_tool")
    ]

    async with ReplayServer(*replies) as server, provider_at(server.base_url) as provider:
        responses = [await provider.complete(question(WEATHER)) for _ in replies]

    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [len(response.tool_calls or []) for response in responses] == [1, 2, 1]
    assert len(warnings) == 1
    assert "--tool-call-parser" in warnings[0]


async def test_a_call_of_a_tool_that_was_not_offered_stays_text(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        ReplayServer(load_recording("tiny-qwen3-bare", "bare_tool_stream")) as server,
        provider_at(server.base_url) as provider,
    ):
        response: Any = await provider.complete(question(ToolSpec(name="get_time", parameters=CITY)))

    assert response.tool_calls is None
    assert "<tool_call>" in response.text
    assert "is not a valid call" in caplog.text
