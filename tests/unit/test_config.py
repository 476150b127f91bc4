"""Config is read once: strings are converted, invalid values named, unknown keys reported with the nearest."""

from typing import Any

import pytest
from amplifier_core.llm_errors import ConfigurationError

from amplifier_module_provider_vllm._config import Config, Reasoning
from amplifier_module_provider_vllm._config_reading import ENVIRONMENT, read_config, unknown_keys

EVERY_VARIABLE = {
    "VLLM_BASE_URL": "http://there:8000",
    "VLLM_API_KEY": "key",
    "VLLM_STREAM_IDLE_TIMEOUT": "20",
    "VLLM_CONTEXT_WINDOW": "8192",
    "VLLM_MAX_OUTPUT_TOKENS": "1024",
}


def test_an_empty_config_has_the_default_of_every_key() -> None:
    assert read_config({}, {}) == Config()


@pytest.mark.parametrize("nothing", [None, ""], ids=["None", "empty"])
@pytest.mark.parametrize("key", sorted(Config.model_fields.keys() - {"truncation"}))
def test_an_empty_value_means_unset(key: str, nothing: str | None) -> None:
    assert read_config({key: nothing}, {}) == Config()


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("use_streaming", "false", False),
        ("use_streaming", "True", True),
        ("enable_state", "1", True),
        ("retry_jitter", "no", False),
        ("raw", "off", False),
        ("timeout", "600", 600.0),
        ("priority", "5", 5),
        ("priority", 5, 5),
        ("temperature", "0", 0.0),
        ("temperature", 0, 0.0),
        ("max_retries", 0, 0),
        ("min_retry_delay", 0, 0.0),
        ("max_tokens", "4096", 4096),
        ("truncation", "auto", "auto"),
        ("truncation", "", None),
        ("reasoning", "high", Reasoning(effort="high")),
        ("reasoning", {"effort": "low", "summary": "auto"}, Reasoning(effort="low", summary="auto")),
        ("reasoning_effort", "minimal", "minimal"),
        ("extra_request_params", {"top_k": 20}, {"top_k": 20}),
        ("vision", "true", True),
    ],
)
def test_a_string_value_is_converted_to_its_type(key: str, given: object, expected: object) -> None:
    config = read_config({key: given}, {})

    assert config == Config().model_copy(update={key: expected})


def test_the_environment_fills_keys_that_the_config_leaves_unset() -> None:
    config = read_config({"context_window": 4096}, EVERY_VARIABLE)

    told = {key: getattr(config, key) for key in ENVIRONMENT}
    assert told | {"api_key": config.api_key.get_secret_value()} == {
        "base_url": "http://there:8000",
        "api_key": "key",
        "stream_idle_timeout": 20.0,
        "context_window": 4096,
        "max_output_tokens": 1024,
    }


def test_an_empty_variable_counts_as_unset() -> None:
    assert read_config({}, dict.fromkeys(EVERY_VARIABLE, "")) == Config()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": "soon"}, "config key 'timeout' is 'soon': input should be a valid number"),
        ({"temperature": 3}, "config key 'temperature' is 3: input should be less than or equal to 2"),
        ({"context_window": "128k"}, "config key 'context_window' (or VLLM_CONTEXT_WINDOW) is '128k': input should"),
        ({"max_tokens": 0}, "config key 'max_tokens' is 0: input should be greater than or equal to 1"),
        ({"use_streaming": "perhaps"}, "config key 'use_streaming' is 'perhaps': input should be a valid boolean"),
        ({"truncation": "middle"}, "config key 'truncation' is 'middle': input should be 'disabled' or 'auto'"),
        ({"reasoning_effort": "wat"}, "config key 'reasoning_effort' is 'wat': string should match pattern"),
        ({"reasoning": {"budget": 5}}, "config key 'reasoning' is {'budget': 5}: extra inputs are not permitted"),
        ({"rates": {"input": -1, "output": 1}}, "config key 'rates' is {'input': -1, 'output': 1}: input should be"),
        ({"api_key": ["secret"]}, "config key 'api_key' (or VLLM_API_KEY) is (hidden): input should be a valid string"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_an_invalid_value_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read_config(given, {})

    assert str(raised.value).startswith(said)
    assert raised.value.provider == "vllm"
    assert "secret" not in str(raised.value)


def test_an_invalid_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\(or VLLM_STREAM_IDLE_TIMEOUT\) is 'long': input should be a valid"):
        read_config({}, {"VLLM_STREAM_IDLE_TIMEOUT": "long"})


def test_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_config({}, {}).priority = 1  # type: ignore[misc]


def test_the_api_key_is_not_shown() -> None:
    assert "very-secret" not in repr(read_config({"api_key": "very-secret"}, {}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"base_url": "x", "priority": 1}, []),
        ({"max_token": 5}, ["unknown config key 'max_token': did you mean 'max_tokens'?"]),
        ({"idle_timeout": 5}, ["unknown config key 'idle_timeout': did you mean 'stream_idle_timeout'?"]),
        (
            {"chat_template_kwargs": {}},
            ["unknown config key 'chat_template_kwargs': put it under 'extra_request_params' if it is meant for vLLM"],
        ),
    ],
    ids=["known", "misspelled", "another name", "vLLM's own"],
)
def test_an_unknown_key_is_reported_with_the_nearest(given: dict[str, Any], said: list[str]) -> None:
    assert unknown_keys(given) == said


@pytest.mark.parametrize(("older", "endpoint"), [(True, "chat"), (True, "responses"), (False, "completions")])
def test_use_completions_that_contradicts_the_endpoint_is_an_error(older: bool, endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"'use_completions' is {older}.*'endpoint' is '{endpoint}'"):
        read_config({"use_completions": older, "endpoint": endpoint}, {})


@pytest.mark.parametrize("value", [-1, 21, "many", 1.5])
def test_an_impossible_number_of_alternatives_is_an_error(value: object) -> None:
    with pytest.raises(ConfigurationError, match="'logprobs'"):
        read_config({"logprobs": value}, {})
