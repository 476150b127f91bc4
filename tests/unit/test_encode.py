"""A request is encoded exactly, in the format of vLLM's /v1/responses."""

from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import Message, TextBlock, ToolSpec

from amplifier_module_provider_vllm._responses.encode import encode
from tests.support.requests import HELLO, ask_of, encode_messages

WEATHER = ToolSpec(name="get_weather", description="The weather.", parameters={"type": "object", "properties": {}})
SENT_WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {}},
}
BARE = {
    "model": "tiny",
    "input": [{"type": "message", "role": "user", "content": "Hello"}],
    "store": False,
    "stream": True,
    "truncation": "disabled",
}
SCHEMA = {"title": "City", "type": "object"}


def system(content: Any) -> Message:
    return Message(role="system", content=content)


def test_a_minimal_request() -> None:
    assert encode_messages(HELLO) == BARE


def test_a_request_with_every_setting() -> None:
    overrides: dict[str, Any] = {
        "temperature": 0.0,
        "top_p": 0.9,
        "stop": ["END"],
        "max_output_tokens": 7,
        "reasoning": {"effort": "low", "summary": "auto"},
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "extra_request_params": {"top_k": 20},
    }
    format_ = {"type": "json_schema", "json_schema": SCHEMA}

    params = encode_messages(
        system("Be brief."),
        HELLO,
        request={"tools": [WEATHER], "response_format": format_},
        overrides=overrides,
        config={"enable_state": True, "truncation": "auto", "use_streaming": False},
    )

    assert params == BARE | {
        "instructions": "Be brief.",
        "store": True,
        "stream": False,
        "truncation": "auto",
        "temperature": 0.0,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "reasoning": {"effort": "low", "summary": "auto"},
        "tools": [SENT_WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "text": {"format": {"type": "json_schema", "name": "City", "schema": SCHEMA}},
        "stop": ["END"],
        "top_k": 20,
    }


def test_truncation_can_be_left_to_the_server() -> None:
    assert "truncation" not in encode_messages(config={"truncation": ""})


def test_system_messages_at_the_start_are_the_instructions() -> None:
    listed = system([TextBlock(text="Cite."), TextBlock(text="Always.")])

    params = encode_messages(system("Be brief."), listed, HELLO, system("todo"))

    assert params["instructions"] == "Be brief.\n\nCite.\n\nAlways."
    assert [item["role"] for item in params["input"]] == ["user"]


@pytest.mark.parametrize("messages", [[system("Be brief.")], [Message(role="user", content=[])]])
def test_a_request_with_nothing_to_answer_is_refused(messages: list[Message]) -> None:
    with pytest.raises(InvalidRequestError, match="no messages except system messages"):
        encode_messages(*messages)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ("any", "required"),
        ("get_weather", {"type": "function", "name": "get_weather"}),
        ({"type": "function", "name": "get_weather"}, {"type": "function", "name": "get_weather"}),
        ({"type": "function", "function": {"name": "get_weather"}}, {"type": "function", "name": "get_weather"}),
        ({"type": "tool", "name": "get_weather"}, {"type": "function", "name": "get_weather"}),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
        ({"type": "allowed_tools", "tools": []}, {"type": "allowed_tools", "tools": []}),
    ],
    ids=str,
)
def test_a_tool_choice_is_converted(choice: str | dict[str, Any], sent: str | dict[str, Any]) -> None:
    params = encode_messages(request={"tools": [WEATHER], "tool_choice": choice})

    assert params == BARE | {"tools": [SENT_WEATHER], "tool_choice": sent, "parallel_tool_calls": True}


@pytest.mark.parametrize("choice", ["none", {"type": "none"}], ids=str)
def test_tool_choice_none_sends_no_tools(choice: str | dict[str, Any]) -> None:
    """vLLM ignores "none" on both paths: the model still calls, natively or as markup."""
    assert encode_messages(request={"tools": [WEATHER], "tool_choice": choice}) == BARE


@pytest.mark.parametrize("tools", [None, []])
def test_a_choice_without_tools_is_not_sent(tools: list[ToolSpec] | None) -> None:
    assert encode_messages(request={"tools": tools, "tool_choice": "required"}) == BARE


def test_a_native_tool_passes_through() -> None:
    native: dict[str, Any] = {"name": "web", "parameters": {}, "type": "web_search", "search_context_size": "low"}

    params = encode_messages(request={"tools": [WEATHER, ToolSpec(**native)]})

    assert params["tools"] == [SENT_WEATHER, {"type": "web_search", "search_context_size": "low"}]


def test_a_tool_without_a_description_has_none() -> None:
    params = encode_messages(request={"tools": [ToolSpec(name="f", parameters={})]})

    assert params["tools"] == [{"type": "function", "name": "f", "parameters": {}}]


@pytest.mark.parametrize(
    ("requested", "sent"),
    [
        ({"type": "text"}, None),
        ({"type": "json"}, {"type": "json_object"}),
        ({"type": "json_schema", "json_schema": SCHEMA}, {"type": "json_schema", "name": "City", "schema": SCHEMA}),
        (
            {"type": "json_schema", "json_schema": {"type": "object"}, "strict": True},
            {"type": "json_schema", "name": "response", "schema": {"type": "object"}, "strict": True},
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}, "strict": False},
            {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": False},
        ),
    ],
    ids=["text", "any JSON", "a schema with a title", "a schema", "OpenAI's shape"],
)
def test_a_response_format_is_converted(requested: dict[str, Any], sent: dict[str, Any] | None) -> None:
    params = encode_messages(request={"response_format": requested})

    assert params == (BARE if sent is None else BARE | {"text": {"format": sent}})


def test_a_setting_that_gpt_oss_does_not_support_is_a_degradation() -> None:
    ask = ask_of(overrides={"reasoning_effort": "max"}, harmony=True)

    assert encode(ask) == BARE | {"reasoning": {"effort": "high"}}
    assert [(one.requested, one.actual) for one in ask.options.degradations] == [
        ("reasoning effort max", "reasoning effort high")
    ]


def test_encoding_is_deterministic_and_does_not_modify_the_request() -> None:
    tool = WEATHER.model_copy(deep=True)
    messages = [system("Be brief."), HELLO, system("todo")]

    first, second = (encode_messages(*messages, request={"tools": [tool]}) for _ in range(2))

    assert repr(first) == repr(second)
    assert tool == WEATHER
    assert [message.content for message in messages] == ["Be brief.", "Hello", "todo"]
