"""One call's settings: kwargs override the request, the request overrides the config, and zero counts as set."""

from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, Degradation, Message

from amplifier_module_provider_vllm._config_reading import read_config
from amplifier_module_provider_vllm._family import GPT_OSS, TEMPLATED
from amplifier_module_provider_vllm._keywords import read_keywords
from amplifier_module_provider_vllm._options import CallOptions, decide_options, first_set

HARMONY = "gpt-oss takes only low, medium and high"
HELLO = [Message(role="user", content="Hello")]


def options_for(
    request: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    *,
    harmony: bool = False,
    advertised: int | None = None,
    has_responses: bool = True,
) -> CallOptions:
    return decide_options(
        ChatRequest(messages=HELLO, **(request or {})),
        read_keywords(overrides or {}),
        read_config(config or {}, {}),
        model="tiny",
        family=GPT_OSS if harmony else TEMPLATED,
        largest_reply=advertised,
        has_responses=has_responses,
    )


def test_unset_options_are_not_sent() -> None:
    options = options_for()

    assert options == CallOptions(
        model="tiny",
        family=TEMPLATED,
        stream=True,
        temperature=None,
        top_p=None,
        stop=None,
        tool_choice=None,
        parallel_tool_calls=None,
        max_output_tokens=None,
        capped_by_caller=False,
        reasoning_effort=None,
        reasoning_summary=None,
        truncation="disabled",
        store=False,
        vision=True,
        hosted_tools=[],
        degradations=[],
        extra_body={},
        extra_headers={},
    )


@pytest.mark.parametrize(
    ("name", "override", "requested", "configured"),
    [
        ("temperature", 0.0, 0.5, 1.0),
        ("top_p", 0.1, 0.2, 0.3),
        ("max_output_tokens", 10, 20, None),
        ("reasoning_effort", "low", "medium", "high"),
        ("stop", [], ["a"], None),
        ("tool_choice", "none", "auto", None),
        ("parallel_tool_calls", False, True, None),
    ],
)
def test_kwargs_override_the_request_and_the_request_overrides_the_config(
    name: str, override: object, requested: object, configured: object
) -> None:
    config = {} if configured is None else {name: configured}

    chosen = [
        getattr(options_for({name: requested}, {name: override}, config), name),
        getattr(options_for({name: requested}, {name: None}, config), name),
        getattr(options_for({}, {}, config), name),
    ]

    assert chosen == [override, requested, configured]


@pytest.mark.parametrize("place", ["overrides", "request", "config"])
def test_zero_counts_as_set_everywhere(place: str) -> None:
    settings = {"request": {}, "overrides": {}, "config": {}, place: {"temperature": 0}}

    options = options_for(settings["request"], settings["overrides"], settings["config"])

    assert options.temperature == 0.0


@pytest.mark.parametrize(
    ("request_", "overrides", "config", "expected"),
    [
        ({}, {}, {}, (2048, False)),
        ({}, {}, {"max_tokens": 100}, (100, False)),
        ({"max_output_tokens": 50}, {}, {"max_tokens": 100}, (50, True)),
        ({"max_output_tokens": 50}, {"max_tokens": 25}, {}, (25, True)),
        ({}, {"max_output_tokens": 10, "max_tokens": 25}, {}, (10, True)),
    ],
    ids=["unset", "config", "request", "kwargs", "both kwargs"],
)
def test_the_cap_records_whether_the_caller_set_it(
    request_: dict[str, Any], overrides: dict[str, Any], config: dict[str, Any], expected: tuple[int, bool]
) -> None:
    options = options_for(request_, overrides, config, advertised=2048)

    assert (options.max_output_tokens, options.capped_by_caller) == expected


@pytest.mark.parametrize(
    ("request_", "overrides", "config", "expected"),
    [
        ({}, {"extended_thinking": True}, {}, ("medium", None)),
        ({}, {"extended_thinking": True}, {"reasoning_effort": "low"}, ("low", None)),
        ({"reasoning_effort": "high"}, {"extended_thinking": False}, {"reasoning_effort": "high"}, ("none", None)),
        ({}, {"extended_thinking": False, "reasoning_effort": "high"}, {"reasoning_summary": "auto"}, ("none", None)),
        ({}, {}, {"reasoning": "high"}, ("high", None)),
        ({}, {}, {"reasoning": {"effort": "high", "summary": "auto"}}, ("high", "auto")),
        ({}, {}, {"reasoning": "high", "reasoning_effort": "low"}, ("low", None)),
        ({"reasoning_effort": "medium"}, {"reasoning": "low"}, {}, ("low", None)),
        ({}, {"reasoning": {"effort": None, "summary": "concise"}}, {"reasoning": "high"}, ("high", "concise")),
        ({}, {"reasoning": "low", "reasoning_effort": "high"}, {}, ("high", None)),
        ({}, {"reasoning_summary": "detailed"}, {"reasoning_summary": "auto"}, (None, "detailed")),
    ],
    ids=[
        "thinking asked for", "thinking asked for of a configured effort", "thinking refused",
        "thinking refused against everything", "configured word", "configured both", "effort above reasoning",
        "kwargs above request", "effort of the config under a summary", "effort above reasoning in kwargs", "summary",
    ],
)  # fmt: skip
def test_the_reasoning_effort_is_decided(
    request_: dict[str, Any], overrides: dict[str, Any], config: dict[str, Any], expected: tuple[str, str]
) -> None:
    options = options_for(request_, overrides, config)

    assert (options.reasoning_effort, options.reasoning_summary) == expected


@pytest.mark.parametrize(
    ("requested", "sent"),
    [
        ("none", "low"), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"),
        ("xhigh", "high"), ("max", "high"), (None, None),
    ],
)  # fmt: skip
def test_gpt_oss_gets_a_supported_effort(requested: str | None, sent: str | None) -> None:
    options = options_for({"reasoning_effort": requested}, harmony=True)

    degraded = [
        Degradation(requested=f"reasoning effort {requested}", actual=f"reasoning effort {sent}", reason=HARMONY)
    ]
    assert options.reasoning_effort == sent
    assert options.degradations == (degraded if requested != sent else [])


@pytest.mark.parametrize("effort", ["none", "minimal", "xhigh", "max"])
def test_other_models_get_the_requested_effort(effort: str) -> None:
    options = options_for({"reasoning_effort": effort})

    assert (options.reasoning_effort, options.degradations) == (effort, [])


def test_disabling_thinking_on_gpt_oss_is_not_a_degradation() -> None:
    options = options_for({}, {"extended_thinking": False}, harmony=True)

    assert (options.reasoning_effort, options.degradations) == ("low", [])


@pytest.mark.parametrize(
    ("metadata", "config", "expected"),
    [
        (None, {}, True),
        ({}, {}, True),
        ({"stream": True}, {}, True),
        ({"stream": False}, {}, False),
        ({"stream": None}, {}, True),
        ({"stream": 0}, {}, True),
        (None, {"use_streaming": False}, False),
        ({"stream": True}, {"use_streaming": "false"}, False),
    ],
)
def test_streaming_is_decided(metadata: dict[str, Any] | None, config: dict[str, Any], expected: bool) -> None:
    assert options_for({"metadata": metadata}, config=config).stream is expected


@pytest.mark.parametrize(
    ("harmony", "configured", "expected"),
    [(False, None, True), (False, False, False), (False, True, True), (True, None, False), (True, True, False)],
)
def test_vision_is_decided(harmony: bool, configured: bool | None, expected: bool) -> None:
    assert options_for(config={"vision": configured}, harmony=harmony).vision is expected


def test_extra_fields_of_a_call_override_those_of_the_config() -> None:
    config = {"extra_request_params": {"top_k": 1, "seed": 2}, "extra_headers": {"a": "1"}}

    options = options_for({}, {"extra_request_params": {"top_k": 5}, "extra_headers": {"b": "2"}}, config)

    assert (options.extra_body, options.extra_headers) == ({"top_k": 5, "seed": 2}, {"a": "1", "b": "2"})


@pytest.mark.parametrize("answer", [0, False, "", [], 0.0])
def test_first_set_returns_the_first_value_that_is_not_none(answer: object) -> None:
    assert first_set(None, answer, "later") == answer


@pytest.mark.parametrize(
    ("config", "endpoint"),
    [
        ({}, "responses"),
        ({"endpoint": "auto"}, "responses"),
        ({"endpoint": "responses"}, "responses"),
        ({"endpoint": "chat"}, "chat"),
        ({"endpoint": "completions"}, "completions"),
        ({"use_completions": True}, "completions"),
        ({"use_completions": "false"}, "chat"),
        ({"use_completions": False, "endpoint": "chat"}, "chat"),
        ({"raw_prompt": True}, "completions"),
        ({"echo": True}, "completions"),
        ({"raw_prompt": True, "endpoint": "chat"}, "chat"),
    ],
)
def test_the_endpoint_is_the_stated_one_or_one_that_can_do_what_is_asked(config: dict[str, Any], endpoint: str) -> None:
    assert options_for(config=config).endpoint == endpoint


def test_a_server_without_responses_is_asked_at_chat() -> None:
    assert options_for(has_responses=False).endpoint == "chat"
    assert options_for(config={"endpoint": "responses"}, has_responses=False).endpoint == "responses"


@pytest.mark.parametrize("harmony", [False, True])
def test_log_probabilities_of_every_token_come_from_chat(harmony: bool) -> None:
    assert options_for(config={"logprobs": 2}, harmony=harmony).endpoint == "chat"
    assert options_for(config={"logprobs": 2, "endpoint": "responses"}, harmony=harmony).endpoint == "responses"


@pytest.mark.parametrize(
    ("given", "count"),
    [(True, 0), ("true", 0), (False, None), ("False", None), (0, 0), ("5", 5), (20, 20)],
)
def test_log_probabilities_are_asked_for_with_a_number_of_alternatives(given: object, count: int | None) -> None:
    assert options_for(config={"logprobs": given}).logprobs == count
    assert options_for(overrides={"logprobs": given}).logprobs == count


def test_a_keyword_overrides_what_the_config_says_of_completions() -> None:
    config = {"logprobs": 3, "echo": True, "raw_prompt": True, "stop": "END"}

    options = options_for(overrides={"logprobs": 0, "echo": False, "raw_prompt": False, "stop": []}, config=config)

    assert (options.logprobs, options.echo, options.raw_prompt, options.stop) == (0, False, False, [])
    assert options_for(config=config).stop == ["END"]
