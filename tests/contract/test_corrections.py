"""An invalid call: the model may correct it once, and no call is run that it did not emit."""

import json
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidToolCallError
from amplifier_core.message_models import ChatRequest, Message, ToolSpec

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.replay import ReplayServer
from tests.support.replies import call_item, full_reply, message_item

REQUEST = ChatRequest(
    messages=[Message(role="user", content="What is the weather in Paris and in London?")],
    tools=[
        ToolSpec(name=name, parameters={"properties": {"city": {"type": "string"}}})
        for name in ("get_weather", "get_time")
    ],
)
GOOD, BROKEN = '{"city": "Paris"}', '{"city": "Par'


@pytest.mark.parametrize("malformed", [BROKEN, '["Paris"]', '"Paris"', "null"])
async def test_the_model_gets_the_error_of_a_bad_call_and_corrects_it(malformed: str) -> None:
    recorder = EventRecorder()
    first = full_reply(message_item("I look."), call_item(malformed), call_item(GOOD, "get_time", call_id="call_2"))

    async with (
        ReplayServer(first, full_reply(call_item(GOOD, call_id="call_3"))) as server,
        provider_at(server.base_url, recorder) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    asked, again = server.request_bodies
    added = again["input"][len(asked["input"]) :]
    assert again | {"input": []} == asked | {"input": []}
    assert [(item["type"], item.get("call_id")) for item in added] == [
        ("message", None),
        ("function_call", "call_1"),
        ("function_call", "call_2"),
        ("function_call_output", "call_1"),
        ("function_call_output", "call_2"),
    ]
    assert added[-2]["output"].startswith("Error: the model called 'get_weather' with arguments that are not")
    assert added[-1]["output"].startswith("Not run: the call of 'get_weather' beside it was malformed.")
    assert [(one.id, one.arguments) for one in response.tool_calls] == [("call_3", {"city": "Paris"})]
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (100, 20, 120)
    assert response.metadata["vllm:billed_tokens"] == {"input_tokens": 200, "output_tokens": 20}
    (retry,) = recorder.payloads("provider:retry")
    assert retry["error_type"] == "InvalidToolCallError"
    assert recorder.names.count("llm:stream_aborted") == recorder.names.count("llm:response") == 1


@pytest.mark.parametrize("arguments", ["", "{}", " "], ids=["nothing", "empty object", "blank"])
async def test_a_call_without_the_arguments_that_its_tool_requires_is_corrected(arguments: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    request = REQUEST.model_copy(update={"tools": [ToolSpec(name="get_weather", parameters=schema)]})

    async with (
        ReplayServer(full_reply(call_item(arguments)), full_reply(call_item(GOOD))) as server,
        provider_at(server.base_url) as provider,
    ):
        response: Any = await provider.complete(request)

    assert server.request_bodies[1]["input"][-1]["output"] == (
        "Error: the model called 'get_weather' without arguments, but the tool requires 'city'. Call it again."
    )
    assert [call.arguments for call in response.tool_calls] == [{"city": "Paris"}]


async def test_the_error_of_a_call_with_a_long_name_is_short() -> None:
    name = "x" * 5000
    stray = call_item("{", name)

    async with (
        ReplayServer(full_reply(stray), full_reply(stray)) as server,
        provider_at(server.base_url) as provider,
    ):
        with pytest.raises(InvalidToolCallError) as failure:
            await provider.complete(REQUEST)

    assert len(str(failure.value)) < 300
    assert failure.value.tool_name == name


async def test_a_call_that_stays_bad_raises_an_error_with_the_models_output() -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(full_reply(call_item(BROKEN)), full_reply(call_item(BROKEN))) as server,
        provider_at(server.base_url, recorder) as provider,
    ):
        with pytest.raises(InvalidToolCallError) as failure:
            await provider.complete(REQUEST)

    error = failure.value
    assert (error.tool_name, error.raw_arguments) == ("get_weather", BROKEN)
    assert isinstance(error.__cause__, json.JSONDecodeError)
    assert (error.provider, error.model, error.retryable) == ("vllm", "tiny-qwen3", False)
    assert len(server.request_bodies) == 2
    assert [event["status"] for event in recorder.payloads("llm:response")] == ["error"]
