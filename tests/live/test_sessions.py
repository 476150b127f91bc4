"""Whole Amplifier sessions: entry-point discovery, a loop, tools, a growing history."""

import pytest
from amplifier_core.models import ModelInfo

from tests.live.endpoints import at_every_endpoint
from tests.rig.replies import text_of
from tests.rig.server import LiveServer
from tests.rig.tap import Tap
from tests.support.exchange import mounted_provider
from tests.support.session import Session, open_session, vllm

pytestmark = pytest.mark.live


@at_every_endpoint
@pytest.mark.parametrize("style", ["basic", "streaming"])
async def test_a_weather_question_runs_the_tool_and_is_answered(server: LiveServer, endpoint: str, style: str) -> None:
    plan = vllm(server.base_url, temperature=0, endpoint=endpoint)

    async with open_session(plan, loop={"style": style}, tools=["get_weather"]) as session:
        answer = await session.ask("What is the weather in Paris?")

    assert answer.strip() == "It is sunny and 21 degrees in Paris."
    assert session.coordinator.get("tools")["get_weather"].calls == [{"city": "Paris"}]


@at_every_endpoint
async def test_a_chain_of_two_tools_runs_in_order(server: LiveServer, endpoint: str) -> None:
    async with (
        Tap(server.base_url, endpoint) as tap,
        open_session(vllm(tap.base_url, temperature=0, endpoint=endpoint)) as session,
    ):
        answer = await session.ask("What is the weather and time in Berlin?")

    ran = [(event["tool_name"], event["tool_input"]) for event in session.payloads("tool:pre")]
    assert ran == [("get_weather", {"city": "Berlin"}), ("get_time", {"city": "Berlin"})]
    # With two results in its history tiny-qwen3 sometimes repeats the wrong one.
    assert answer.strip() == text_of(tap.replies[-1]).strip()
    assert "Berlin" in answer


@at_every_endpoint
async def test_a_second_turn_replays_the_history_and_is_answered(server: LiveServer, endpoint: str) -> None:
    plan = vllm(server.base_url, temperature=0, endpoint=endpoint)

    async with open_session(plan, tools=["get_weather"]) as session:
        first = await session.ask("What is the weather in Paris?")
        second = await session.ask("What is the capital of Germany?")
        stored = await session.messages()

    # Question, call and result, answer and the next question.
    assert [event["message_count"] for event in session.payloads("llm:request")] == [1, 3, 5]
    assert [message["role"] for message in stored] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert first.strip() == "It is sunny and 21 degrees in Paris."
    assert second.strip() == "The capital of Germany is Berlin."
    assert session.payloads("provider:tool_sequence_repaired") == []


async def test_the_servers_limits_are_known_before_the_first_call(server: LiveServer, session: Session) -> None:
    assert mounted_provider(session).get_model_info() == ModelInfo(
        id=server.model,
        display_name=server.model,
        context_window=4096,
        max_output_tokens=1024,
        capabilities=["streaming", "tools", "thinking", "reasoning", "json_mode", "local"],
    )
