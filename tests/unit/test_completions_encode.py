"""A request is encoded exactly for vLLM's /v1/completions, and what it cannot express is told."""

from dataclasses import replace
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ImageBlock, Message, TextBlock, ToolSpec

from amplifier_module_provider_vllm._ask import Ask, TokenPrompt
from amplifier_module_provider_vllm._completions.encode import encode
from amplifier_module_provider_vllm._completions.fit import fit
from amplifier_module_provider_vllm._turn import Reasoning
from tests.support.exchange import GET_WEATHER
from tests.support.requests import HELLO, ask_of

PROMPT = TokenPrompt((1, 2, 3), in_reasoning=False)
RENDERED = {
    "model": "tiny",
    "prompt": [1, 2, 3],
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,
    "skip_special_tokens": False,
}
RAW = {
    "model": "tiny",
    "prompt": "Hello",
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,
}
STRICT = ToolSpec.model_validate({**GET_WEATHER.model_dump(), "strict": True})
SEARCH = ToolSpec.model_validate({"name": "search", "parameters": {}, "type": "web_search"})
IMAGE = ImageBlock(source={"type": "base64", "data": "aGk=", "media_type": "image/png"})


def rendered(*messages: Message, **settings: Any) -> Ask:
    return replace(ask_of(*messages, **settings), tokens=PROMPT)


def raw(*messages: Message, **settings: Any) -> Ask:
    return ask_of(*messages, **{"overrides": {"raw_prompt": True}, **settings})


def lost(ask: Ask) -> list[tuple[str, str]]:
    return [(one.requested, one.actual) for one in fit(ask).degradations]


def test_a_rendered_prompt_is_sent_as_its_token_ids() -> None:
    assert encode(rendered()) == RENDERED


def test_a_continued_reply_follows_its_prompt_in_token_ids() -> None:
    tokens = replace(PROMPT, reply=(4, 5), reply_text="<think>")

    body = encode(replace(rendered(), reply=(Reasoning("I"),), tokens=tokens))

    assert body == RENDERED | {"prompt": [1, 2, 3, 4, 5]}


def test_a_raw_prompt_is_the_last_user_message() -> None:
    reply = Message(role="assistant", content="Hi.")
    body = encode(fit(raw(Message(role="user", content="Before"), reply, HELLO)))

    assert body == RAW


def test_the_text_blocks_of_a_raw_prompt_are_lines() -> None:
    body = encode(raw(Message(role="user", content=[TextBlock(text="One"), TextBlock(text="<|im_end|>")])))

    assert body["prompt"] == "One\n<|im_end|>"


def test_a_raw_prompt_needs_a_user_message() -> None:
    ask = raw(Message(role="assistant", content="Hi."))

    with pytest.raises(InvalidRequestError, match=r"`raw_prompt` sends the last user message, and there is none"):
        encode(fit(ask))


def test_the_ids_of_an_echoed_prompt_are_not_asked_for() -> None:
    """vLLM 0.32 leaves the echoed text out if it sends ids."""
    body = encode(raw(overrides={"raw_prompt": True, "echo": True}))

    assert body == {key: value for key, value in RAW.items() if key != "return_token_ids"} | {"echo": True}


def test_every_setting_of_a_call_has_its_key() -> None:
    overrides = {"temperature": 0, "top_p": 0.5, "stop": "END", "logprobs": 2, "max_tokens": 7, "seed": 3}

    body = encode(rendered(overrides={**overrides, "extra_request_params": {"min_p": 0.1, "prompt": "no"}}))

    assert body == RENDERED | {
        "temperature": 0,
        "top_p": 0.5,
        "stop": ["END"],
        "logprobs": 2,
        "max_tokens": 7,
        "seed": 3,
        "min_p": 0.1,
    }


EXTRA: dict[str, Any] = {"extra_request_params": {"stream_options": {"continuous_usage_stats": True}}}


@pytest.mark.parametrize("config", [{}, EXTRA], ids=["none", "the operator's"])
def test_an_unstreamed_reply_has_no_stream_options(config: dict[str, Any]) -> None:
    body = encode(rendered(overrides={"stream": False}, config=config))

    assert body == {key: value for key, value in RENDERED.items() if key != "stream_options"} | {"stream": False}


def test_the_operators_stream_options_stand_beside_ours() -> None:
    body = encode(rendered(config=EXTRA))

    assert body == RENDERED | {"stream_options": {"continuous_usage_stats": True, "include_usage": True}}


@pytest.mark.parametrize(
    ("response_format", "sent"),
    [
        ({"type": "json"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}, "strict": True},
            {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
    ids=["json", "schema"],
)
def test_a_response_format_is_spelled_as_in_a_chat(response_format: dict[str, Any], sent: dict[str, Any]) -> None:
    body = encode(rendered(request={"response_format": response_format}))

    assert body == RENDERED | {"response_format": sent}


def test_a_request_that_can_be_expressed_fits_as_it_is() -> None:
    ask = ask_of(request={"tools": [GET_WEATHER]}, overrides={"tool_choice": "auto", "reasoning_effort": "low"})

    assert fit(ask) is ask


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"overrides": {"tool_choice": "required"}}, ("tool_choice required", "tool_choice auto")),
        ({"overrides": {"tool_choice": "get_weather"}}, ("tool_choice get_weather", "tool_choice auto")),
        ({"overrides": {"parallel_tool_calls": False}}, ("one call at a time", "calls in parallel")),
        ({"request": {"tools": [STRICT]}}, ("strict get_weather", "get_weather")),
        ({"request": {"tools": [GET_WEATHER, SEARCH]}}, ("tool search", "no tool search")),
        ({"config": {"hosted_tools": ["web_search"]}}, ("tool web_search", "no tool web_search")),
        ({"config": {"truncation": "auto"}}, ("truncation auto", "truncation disabled")),
        ({"overrides": {"reasoning_summary": "auto"}}, ("reasoning summary auto", "no reasoning summary auto")),
        ({"overrides": {"store": True}}, ("stored replies", "the whole history with every request")),
        ({"overrides": {"echo": True}}, ("echo", "no echo")),
    ],
    ids=["required", "named", "one call", "strict", "hosted", "configured", "truncation", "summary", "store", "echo"],
)
def test_what_the_endpoint_cannot_express_is_a_degradation(settings: dict[str, Any], expected: tuple[str, str]) -> None:
    ask = ask_of(**{"request": {"tools": [GET_WEATHER]}, **settings})

    fitting = fit(ask)

    assert lost(ask) == [expected]
    assert fit(fitting) is fitting
    assert [tool.model_dump() for tool in fitting.functions] == [GET_WEATHER.model_dump()]


def test_an_image_becomes_a_note() -> None:
    ask = ask_of(Message(role="user", content=[TextBlock(text="See:"), IMAGE]))

    fitting = fit(ask)

    assert lost(ask) == [("image", "text")]
    assert fit(fitting) is fitting


def test_a_raw_prompt_tells_all_that_it_leaves_out() -> None:
    system = Message(role="system", content="Be brief.")
    messages = (system, Message(role="user", content="One"), Message(role="assistant", content="Two"), HELLO)
    overrides = {"raw_prompt": True, "reasoning_effort": "low", "tool_choice": "required"}
    ask = raw(*messages, request={"tools": [GET_WEATHER]}, overrides=overrides)

    fitting = fit(ask)

    left_out = ("the history", "instructions", "tools", "reasoning effort low")
    assert lost(ask) == [(part, "a raw prompt") for part in left_out]
    assert fit(fitting) is fitting
    assert encode(fitting) == RAW


def test_a_raw_prompt_keeps_the_format_and_the_echo() -> None:
    ask = raw(request={"response_format": {"type": "json"}}, overrides={"raw_prompt": True, "echo": True})

    assert fit(ask) is ask
    assert (encode(ask)["echo"], encode(ask)["response_format"]) == (True, {"type": "json_object"})
