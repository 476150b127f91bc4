"""Defects of another vLLM provider that no other test covers, over a real socket."""

import logging
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, Message, TextBlock

from tests.support.event_recorder import provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer

HELLO = ChatRequest(messages=[Message(role="user", content="Hello")])


async def test_a_successful_call_logs_nothing_at_the_default_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="amplifier_module_provider_vllm")

    async with (
        ReplayServer(load_recording("tiny-qwen3", "r2_tool_stream")) as server,
        provider_at(server.base_url) as provider,
    ):
        await provider.complete(HELLO)

    ours = [record for record in caplog.records if record.name.startswith("amplifier_module_provider_vllm")]
    assert ours, "without any record the level of none is checked"
    above_debug = [(record.levelname, record.message.partition("/v1: ")[2]) for record in ours if record.levelno > 10]
    assert above_debug == [("INFO", "tiny-qwen3: planning with a window of 4,096 tokens")]


async def test_every_text_of_a_system_message_in_blocks_reaches_the_server() -> None:
    system = Message(role="system", content=[TextBlock(text="Be brief."), TextBlock(text="Be kind.")])
    request = HELLO.model_copy(update={"messages": [system, *HELLO.messages]})

    async with (
        ReplayServer(load_recording("tiny-qwen3", "r1_answer_stream")) as server,
        provider_at(server.base_url) as provider,
    ):
        await provider.complete(request)

    (asked,) = server.request_bodies
    assert asked["instructions"] == "Be brief.\n\nBe kind."


@pytest.mark.parametrize("case", ["r1_answer_stream", "r2_tool_stream"])
async def test_token_counts_of_a_gpt_oss_server_are_kept(case: str) -> None:
    recording = load_recording("tiny-gpt-oss", case)

    async with ReplayServer(recording) as server, provider_at(server.base_url) as provider:
        response: Any = await provider.complete(HELLO)

    assert response.usage.reasoning_tokens > 0
    assert response.usage.output_tokens > response.usage.reasoning_tokens
    assert "vllm:usage_estimated" not in response.metadata
