"""A server without its parser flags: calls in the text are parsed, and the operator is warned."""

import logging

import pytest

from tests.live.endpoints import at_every_endpoint
from tests.rig.server import LiveServer
from tests.support.exchange import CAPITAL, TWO_WEATHERS, WEATHER, block_contents, open_provider
from tests.support.session import open_session, vllm

pytestmark = pytest.mark.live


@at_every_endpoint
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_the_weather_turn_works_with_the_call_in_the_text(
    without_parsers: LiveServer, endpoint: str, stream: bool
) -> None:
    plan = vllm(without_parsers.base_url, temperature=0, endpoint=endpoint, use_streaming=stream)

    async with open_session(plan, tools=["get_weather"]) as session:
        answer = await session.ask("What is the weather in Paris?")
        stored = await session.messages()

    assert answer.endswith("It is sunny and 21 degrees in Paris.")
    assert [message["role"] for message in stored] == ["user", "assistant", "tool", "assistant"]
    assert session.coordinator.get("tools")["get_weather"].calls == [{"city": "Paris"}]


async def test_calls_in_the_text_become_calls_with_one_warning_that_names_the_flag(
    without_parsers: LiveServer, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_provider(without_parsers.base_url, endpoint=endpoint) as provider:
        one, two, plain = [await provider.complete(question) for question in (WEATHER, TWO_WEATHERS, CAPITAL)]

    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert block_contents(one)[1:] == [("get_weather", {"city": "Paris"})]
    assert block_contents(two)[1:] == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "London"})]
    assert len({call.id for call in provider.parse_tool_calls(two)}) == 2
    assert [reply.finish_reason for reply in (one, two, plain)] == ["tool_calls", "tool_calls", "stop"]
    if endpoint == "completions":  # where the provider reads the model's raw output, and the flags do not matter
        assert warnings == []
        return
    assert len(warnings) == 1
    assert "--enable-auto-tool-choice" in warnings[0]
    assert "--tool-call-parser" in warnings[0]


@at_every_endpoint
async def test_a_server_with_its_flags_causes_no_warning(
    server: LiveServer, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_provider(server.base_url, endpoint=endpoint) as provider:
        await provider.complete(WEATHER)

    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
