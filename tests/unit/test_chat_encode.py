"""A request is encoded exactly, in the format of vLLM's /v1/chat/completions."""

import json
from dataclasses import replace
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ChatRequest, Degradation, ImageBlock, Message, ToolSpec
from hypothesis import given, settings

from amplifier_module_provider_vllm._ask import to_ask
from amplifier_module_provider_vllm._chat.encode import encode
from amplifier_module_provider_vllm._chat.fit import fit
from amplifier_module_provider_vllm._tool_repair import repair_tool_sequence
from amplifier_module_provider_vllm._turn import Reasoning, Text
from tests.support.request_strategies import chat_requests, valid_requests
from tests.support.requests import HELLO, ask_of, options

NO_FIELD = "/v1/chat/completions has no field for it"
ONLY_FUNCTIONS = "/v1/chat/completions takes only functions"

WEATHER = ToolSpec(name="get_weather", description="The weather.", parameters={"type": "object", "properties": {}})
SEARCH = ToolSpec.model_validate({"name": "web", "parameters": {}, "type": "web_search"})
SQL = ToolSpec.model_validate({"name": "sql", "parameters": {}, "type": "custom"})
SENT_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {}},
    },
}
BARE = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
SCHEMA = {"title": "City", "type": "object"}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def body_of(*messages: Message, **how: Any) -> dict[str, Any]:
    """The JSON request body; `how` as for `ask_of`."""
    return encode(ask_of(*messages, **how))


def test_a_minimal_request() -> None:
    assert body_of() == BARE


def test_a_request_with_every_setting() -> None:
    overrides: dict[str, Any] = {
        "temperature": 0.0,
        "top_p": 0.9,
        "stop": ["END"],
        "max_output_tokens": 7,
        "reasoning_effort": "low",
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "seed": 0,
        "logprobs": 2,
        "extra_request_params": {"top_k": 20, "priority": 1, "cache_salt": "s", "chat_template_kwargs": {"x": 1}},
    }
    format_ = {"type": "json_schema", "json_schema": SCHEMA}

    body = body_of(
        Message(role="system", content="Be brief."),
        HELLO,
        request={"tools": [WEATHER], "response_format": format_},
        overrides=overrides,
        config={"use_streaming": False},
    )

    assert body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "stream": False,
        "temperature": 0.0,
        "top_p": 0.9,
        "max_completion_tokens": 7,
        "reasoning_effort": "low",
        "stop": ["END"],
        "tools": [SENT_WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "City", "schema": SCHEMA}},
        "top_k": 20,
        "priority": 1,
        "cache_salt": "s",
        "chat_template_kwargs": {"x": 1},
        "seed": 0,
    }


def test_replayed_reasoning_is_spelled_both_ways() -> None:
    answer = Message.model_validate(
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi"}]}
    )

    assert body_of(HELLO, answer)["messages"][1] == {
        "role": "assistant",
        "reasoning": "Hm.",
        "content": "Hi",
        "reasoning_content": "Hm.",
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ("any", "required"),
        ("get_weather", NAMED),
        ({"type": "function", "name": "get_weather"}, NAMED),
        (NAMED, NAMED),
        ({"type": "tool", "name": "get_weather"}, NAMED),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
    ],
    ids=str,
)
def test_a_tool_choice_is_converted(choice: str | dict[str, Any], sent: str | dict[str, Any]) -> None:
    body = body_of(request={"tools": [WEATHER], "tool_choice": choice})

    assert body == BARE | {"tools": [SENT_WEATHER], "tool_choice": sent, "parallel_tool_calls": True}


def test_without_a_tool_choice_none_is_sent() -> None:
    """vLLM loses an unstreamed call if it is null."""
    assert body_of(request={"tools": [WEATHER]}) == BARE | {"tools": [SENT_WEATHER], "parallel_tool_calls": True}


@pytest.mark.parametrize("choice", ["none", {"type": "none"}], ids=str)
def test_tool_choice_none_sends_no_tools(choice: str | dict[str, Any]) -> None:
    assert body_of(request={"tools": [WEATHER], "tool_choice": choice}) == BARE


@pytest.mark.parametrize("tools", [None, [], [SEARCH]], ids=["none", "an empty list", "no function"])
def test_a_choice_without_functions_is_not_sent(tools: list[ToolSpec] | None) -> None:
    extra = {"extra_request_params": {"tool_choice": "auto", "parallel_tool_calls": True}}

    assert body_of(request={"tools": tools, "tool_choice": "required"}, config=extra) == BARE


@pytest.mark.parametrize(
    ("requested", "sent"),
    [
        ({"type": "text"}, None),
        ({"type": "json"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "json_schema": SCHEMA},
            {"type": "json_schema", "json_schema": {"name": "City", "schema": SCHEMA}},
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}, "strict": False},
            {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": False}},
        ),
    ],
    ids=["text", "any JSON", "a schema with a title", "OpenAI's shape"],
)
def test_a_response_format_is_converted(requested: dict[str, Any], sent: dict[str, Any] | None) -> None:
    assert body_of(request={"response_format": requested}) == (
        BARE if sent is None else BARE | {"response_format": sent}
    )


@pytest.mark.parametrize(("logprobs", "alternatives"), [(True, 0), (0, 0), (5, 5)])
def test_log_probabilities_are_asked_for_with_their_alternatives(logprobs: int | bool, alternatives: int) -> None:
    body = body_of(overrides={"logprobs": logprobs})

    assert body == BARE | {"logprobs": True, "top_logprobs": alternatives}


def test_token_ids_are_asked_for_only_if_they_are_needed() -> None:
    assert encode(replace(ask_of(), wants_tokens=True)) == BARE | {"return_token_ids": True}


def test_an_open_text_is_continued_without_thinking() -> None:
    """Else vLLM gives the rest of an unstreamed text as reasoning."""
    ask = ask_of(overrides={"reasoning_effort": "high"}, model="qwen")

    body = encode(replace(ask, reply=(Reasoning("\nHm.\n"), Text("\n\nOne, "))))

    assert body == BARE | {
        "model": "qwen",
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "reasoning": "\nHm.\n", "content": "\n\nOne, ", "reasoning_content": "\nHm.\n"},
        ],
        "reasoning_effort": "none",
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def test_what_a_call_decides_stands_before_the_operators_fields() -> None:
    extra = {
        "messages": [],
        "model": "x",
        "stream": False,
        "temperature": 1,
        "stop": ["a"],
        "min_p": 0.1,
        "user": None,
        "stream_options": {"continuous_usage_stats": True, "include_usage": False},
    }

    body = body_of(config={"extra_request_params": extra, "temperature": 0})

    assert body == BARE | {
        "temperature": 0,
        "stop": ["a"],
        "min_p": 0.1,
        "stream_options": {"continuous_usage_stats": True, "include_usage": True},
    }


def test_an_unstreamed_request_has_no_stream_options() -> None:
    """vLLM refuses them without a stream."""
    extra = {"stream_options": {"continuous_usage_stats": True}}

    body = body_of(config={"extra_request_params": extra, "use_streaming": False})

    assert "stream_options" not in body


def test_an_effort_that_gpt_oss_does_not_support_is_replaced() -> None:
    assert body_of(overrides={"reasoning_effort": "max"}, harmony=True) == BARE | {"reasoning_effort": "high"}


def test_an_image_that_is_neither_base64_nor_a_url_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="neither base64 nor url"):
        body_of(Message(role="user", content=[ImageBlock(source={"file": "a.png"})]))


def test_encoding_is_deterministic_and_does_not_modify_the_request() -> None:
    tool, extra = WEATHER.model_copy(deep=True), {"stream_options": {"continuous_usage_stats": True}}
    ask = ask_of(HELLO, request={"tools": [tool]}, config={"extra_request_params": extra})

    first, second = encode(ask), encode(ask)

    assert repr(first) == repr(second)
    assert tool == WEATHER
    assert extra == {"stream_options": {"continuous_usage_stats": True}}


LOSSES: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "nothing": ({"request": {"tools": [WEATHER], "tool_choice": "get_weather"}}, []),
    "truncation left to the server": ({"config": {"truncation": ""}}, []),
    "truncation": (
        {"config": {"truncation": "auto"}},
        [("truncation auto", "truncation disabled", NO_FIELD)],
    ),
    "a summary": (
        {"overrides": {"reasoning": {"effort": "low", "summary": "auto"}}},
        [("reasoning summary auto", "no reasoning summary auto", NO_FIELD)],
    ),
    "state": (
        {"config": {"enable_state": True}},
        [("stored replies", "the whole history with every request", NO_FIELD)],
    ),
    "a prompt without a template": (
        {"overrides": {"raw_prompt": True, "echo": True}},
        [("echo", "no echo", NO_FIELD), ("raw_prompt", "no raw_prompt", NO_FIELD)],
    ),
    "a hosted tool of the session": (
        {"request": {"tools": [WEATHER, SEARCH]}},
        [("tool web", "no tool web", ONLY_FUNCTIONS)],
    ),
    "hosted tools of the config": (
        {"config": {"hosted_tools": ["web_search", {"type": "mcp", "server_label": "db", "server_url": "http://x"}]}},
        [
            ("tool web_search", "no tool web_search", ONLY_FUNCTIONS),
            ("tool db", "no tool db", ONLY_FUNCTIONS),
        ],
    ),
    "tools that may not be called": ({"request": {"tools": [SEARCH], "tool_choice": "none"}}, []),
    "a choice of another kind": (
        {"request": {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "tools": []}}},
        [("a tool_choice of another kind", "tool_choice auto", ONLY_FUNCTIONS)],
    ),
    "the choice of a tool that is no function": (
        {"request": {"tools": [WEATHER, SQL], "tool_choice": "sql"}},
        [
            ("tool sql", "no tool sql", ONLY_FUNCTIONS),
            ("a tool_choice of another kind", "tool_choice auto", ONLY_FUNCTIONS),
        ],
    ),
}


@pytest.mark.parametrize(("how", "lost"), LOSSES.values(), ids=LOSSES.keys())
def test_what_the_endpoint_cannot_express_is_a_degradation(
    how: dict[str, Any], lost: list[tuple[str, str, str]]
) -> None:
    ask = ask_of(**how)

    fitted = fit(ask)

    assert fitted.degradations == tuple(
        Degradation(requested=requested, actual=actual, reason=reason) for requested, actual, reason in lost
    )
    assert fit(fitted) is fitted
    assert encode(fitted).get("tool_choice", "auto") in ("auto", NAMED)


def test_a_request_that_fits_stays_as_it_is() -> None:
    ask = ask_of(request={"tools": [WEATHER]})

    assert fit(ask) is ask


@pytest.mark.parametrize("harmony", [False, True], ids=["chat template", "harmony"])
@settings(max_examples=200)
@given(request=chat_requests() | valid_requests())
def test_any_request_is_encoded_or_refused(harmony: bool, request: ChatRequest) -> None:
    repaired = repair_tool_sequence(request.messages)
    try:
        body = encode(fit(to_ask(repaired.messages, request, options(request, harmony=harmony))))
    except InvalidRequestError:
        return

    calls = [call["id"] for message in body["messages"] for call in message.get("tool_calls", [])]
    results = [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]
    assert json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    assert set(calls) == set(results)
    assert None not in body.values()
    assert [message for message in body["messages"] if None in message.values()] == []
    assert [] not in (body.get("tools"), *(message.get("tool_calls") for message in body["messages"]))
    assert ("tool_choice" in body) <= ("tools" in body)
