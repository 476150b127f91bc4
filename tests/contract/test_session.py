"""A complete Amplifier session over recorded replies; the test modules behave like the real ones."""

import asyncio
from typing import Any

import pytest
from amplifier_core.llm_errors import AuthenticationError

from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, reply
from tests.support.session import SessionError, open_session, vllm

QUESTION = "What is the weather in Paris?"
TOOL_TURN = [load_recording("tiny-qwen3", "r2_tool_stream"), load_recording("tiny-qwen3", "r3_after_tool_stream")]


@pytest.mark.parametrize("style", ["basic", "streaming"])
async def test_a_tool_turn_runs_from_question_to_answer(style: str) -> None:
    async with (
        ReplayServer(*TOOL_TURN) as server,
        open_session(vllm(server.base_url), loop={"style": style}) as session,
    ):
        answer = await session.ask(QUESTION)
        stored = await session.messages()

    call_id = stored[1]["tool_calls"][0]["id"]
    assert answer.strip() == "It is sunny and 21 degrees in Paris."
    assert [message["role"] for message in stored] == ["user", "assistant", "tool", "assistant"]
    assert stored[1]["tool_calls"] == [{"id": call_id, "tool": "get_weather", "arguments": {"city": "Paris"}}]
    assert stored[2] == {"role": "tool", "name": "get_weather", "tool_call_id": call_id, "content": "sunny, 21 C"}
    assert session.payloads("orchestrator:complete")[0]["turn_count"] == 2


async def test_a_listener_gets_events_of_the_kernel_the_loop_and_the_provider() -> None:
    names: list[str] = []

    async with (
        ReplayServer(*TOOL_TURN) as server,
        open_session(vllm(server.base_url), listener=lambda name, _data: names.append(name)) as session,
    ):
        await session.ask(QUESTION)

    expected = {"provider:request", "llm:request", "llm:stream_block_delta", "llm:response", "tool:pre", "tool:post"}
    assert expected | {"content_block:end", "orchestrator:complete"} <= set(names)
    assert names == [event.name for event in session.events]


async def test_results_of_parallel_calls_keep_the_order_of_the_calls() -> None:
    parallel = (
        load_recording("tiny-qwen3", "r4_parallel_stream"),
        load_recording("tiny-qwen3", "r4_after_two_tools_stream"),
    )

    async with ReplayServer(*parallel) as server, open_session(vllm(server.base_url)) as session:
        await session.ask("Compare the weather in Paris and London.")
        stored = await session.messages()

    results = [message["content"] for message in stored if message["role"] == "tool"]
    assert results == ["sunny, 21 C", "rainy, 12 C"]
    calls = session.coordinator.get("tools")["get_weather"].calls  # run in parallel, so in any order
    assert sorted(call["city"] for call in calls) == ["London", "Paris"]


async def test_two_servers_work_in_one_session() -> None:
    async with (
        ReplayServer(load_recording("tiny-qwen3", "r1_answer_stream")) as first,
        ReplayServer(load_recording("tiny-gpt-oss", "r1_answer_stream")) as second,
        open_session(vllm(first.base_url), vllm(second.base_url, "other"), loop={"provider": "other"}) as session,
    ):
        answer = await session.ask("What is the capital of France?")

    assert answer.strip() == "The capital of France is Paris."
    assert (len(first.request_bodies), len(second.request_bodies)) == (0, 1)


async def test_a_failure_of_the_provider_keeps_its_type() -> None:
    async with (
        ReplayServer(load_recording("tiny-qwen3-auth", "auth_wrong")) as server,
        open_session(vllm(server.base_url)) as session,
    ):
        with pytest.raises(AuthenticationError):
            await session.ask(QUESTION)

    assert [data["error"]["type"] for data in session.payloads("provider:error")] == ["AuthenticationError"]


async def test_cancelling_the_question_cancels_the_providers_call() -> None:
    begun = asyncio.Event()
    silent = reply(load_recording("tiny-qwen3", "r5_long_whole_stream"), cut_at=5000, ending="stall")

    def notice(name: str, _data: dict[str, Any]) -> None:
        if name == "llm:stream_block_delta":
            begun.set()

    async with ReplayServer(silent) as server, open_session(vllm(server.base_url), listener=notice) as session:
        question = asyncio.create_task(session.ask("Count from 1 to 100."))
        await begun.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question

    assert [data["error"]["type"] for data in session.payloads("llm:stream_aborted")] == ["CancelledError"]
    assert [data["status"] for data in session.payloads("llm:response")] == ["cancelled"]


async def test_a_provider_that_does_not_load_fails_the_session() -> None:
    with pytest.raises(SessionError, match="0 of 1 providers"):
        async with open_session(vllm("http://127.0.0.1:1/v1", timeout="soon")):
            pass
