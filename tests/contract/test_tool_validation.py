"""The model reads the bare error of a denied tool call, whatever the loop wrote before it, at every endpoint."""

from typing import Any, Final

import pytest
from amplifier_core.message_models import ChatRequest, Message, TextBlock, ToolResultBlock

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.provider_session import provider_session
from tests.support.replay import ReplayServer
from tests.support.session import open_session, vllm
from tests.support.speaker import ANSWERS, SPEAKERS, spoken
from tests.support.speech import Part, Speech, call_part, text_part

HOOKS: Final = {"module": "hooks-vllm-tool-validation"}
UNKNOWN: Final = "Error: unknown tool: get_forecast | allowed_tools=[get_weather, get_time]"
INVALID: Final = "Error: tool_name=<get_weather> | missing required argument(s): city"

each_endpoint = pytest.mark.parametrize("endpoint", ANSWERS)


def posted(server: ReplayServer) -> str:
    """All that the server was sent."""
    return "\n".join(request.body.decode() for request in server.requests)


@each_endpoint
@pytest.mark.parametrize("style", ["basic", "streaming"])
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (call_part("get_forecast", '{"city": "Paris"}'), UNKNOWN),
        (call_part("get_weather", '{"town": 5}'), INVALID),
        (call_part("get_weather", "{}"), INVALID),
    ],
    ids=["unknown tool", "invalid input", "no input"],
)
async def test_the_model_reads_why_its_call_was_denied(
    call: Part, error: str, style: str, endpoint: EndpointName
) -> None:
    speaker = SPEAKERS[endpoint]
    replies = [spoken(speaker, Speech((call,))), spoken(speaker, Speech((text_part("I cannot."),)))]

    async with (
        ReplayServer(*replies) as server,
        open_session(vllm(server.base_url, endpoint=endpoint), loop={"style": style}, hooks=[HOOKS]) as session,
    ):
        answer = await session.ask("What will the weather be?")
        weather = session.coordinator.get("tools")["get_weather"]

    assert answer == "I cannot."
    assert f'"{error}"' in posted(server)
    assert "denied" not in posted(server).lower()
    assert session.payloads("provider:retry") == []
    assert weather.calls == []


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
async def test_without_validation_the_model_corrects_an_unknown_tool_in_the_same_call(endpoint: EndpointName) -> None:
    call = call_part("get_forecast", '{"city": "Paris"}')
    replies = [spoken(SPEAKERS[endpoint], Speech((part,))) for part in (call, text_part("I cannot."))]

    async with ReplayServer(*replies) as server, open_session(vllm(server.base_url, endpoint=endpoint)) as session:
        await session.ask("What will the weather be?")

    assert "Error: the model called 'get_forecast' which is not among the tools" in posted(server)
    assert [data["error_type"] for data in session.payloads("provider:retry")] == ["InvalidToolCallError"]


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (f"Denied by hook: {UNKNOWN}", UNKNOWN),
        (f"Tool execution denied: {INVALID}", INVALID),
        ([TextBlock(text=f"Denied by hook: {INVALID}")], INVALID),
        ([ToolResultBlock(tool_call_id="call_1", output=f"Denied by hook: {INVALID}")], INVALID),
        (UNKNOWN, UNKNOWN),
        ("Denied by hook: not today", "Denied by hook: not today"),
        ("Denied by hook: Error: no tools today", "Denied by hook: Error: no tools today"),
        (f"Denied by hook: no. {UNKNOWN}", f"Denied by hook: no. {UNKNOWN}"),
        (f" Denied by hook: {UNKNOWN}", f" Denied by hook: {UNKNOWN}"),
        (f"Denied by hook: Denied by hook: {UNKNOWN}", f"Denied by hook: Denied by hook: {UNKNOWN}"),
    ],
)
@each_endpoint
async def test_only_what_the_loops_write_before_our_errors_is_left_out(
    content: Any, sent: str, endpoint: EndpointName
) -> None:
    called = {"id": "call_1", "tool": "get_weather", "arguments": {}}
    messages = [
        Message(role="user", content="What will the weather be?"),
        Message(role="assistant", content="", tool_calls=[called]),
        Message(role="tool", tool_call_id="call_1", content=content),
    ]

    async with (
        ReplayServer(spoken(SPEAKERS[endpoint], Speech((text_part("I cannot."),)))) as server,
        provider_session(server, endpoint=endpoint) as (_session, provider),
    ):
        await provider.complete(ChatRequest(messages=messages))

    assert f'"{sent}"' in posted(server)
