"""Read the operator's config, once: the environment, its variables, and errors that name the key."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from amplifier_core.llm_errors import ConfigurationError
from pydantic import ValidationError

from ._config import Config, named_by
from ._constants import PROVIDER
from ._strict_json import Json
from ._wire.url import same_server

ENVIRONMENT: Final = {
    "base_url": "VLLM_BASE_URL",
    "api_key": "VLLM_API_KEY",
    "stream_idle_timeout": "VLLM_STREAM_IDLE_TIMEOUT",
    "context_window": "VLLM_CONTEXT_WINDOW",
    "max_output_tokens": "VLLM_MAX_OUTPUT_TOKENS",
}
"""Config keys and the environment variables that set them if the config does not."""

# A default has a bounded length, so that a text full of `${a:` is read in linear time.
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([^}]{0,10000}))?\}")
"""`${NAME}` or `${NAME:default}`, which an app resolves; in a mount plan it may arrive as it was written."""

RESOLVED: Final = ("base_url", "api_key", "extra_headers", "hosted_tools", "tokenize_url")
"""Config keys whose variables we resolve: unresolved ones would be sent to the server."""


SECRETS: Final = {"api_key", "base_url", "extra_headers", "extra_request_params", "hosted_tools", "tokenize_url"}
"""Config keys whose values may hold a key or a password; error messages hide them."""


def read_config(config: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    """The config, with the environment as fallback. An empty string means unset: the setup wizard writes those.

    Raises `ConfigurationError` for an invalid value, naming the key, the value and what is allowed.
    """
    resolved = {**config, **{key: _resolve(key, config[key], environment) for key in RESOLVED if key in config}}
    settings = {key: value for key, value in resolved.items() if value is not None and value != ""}
    if config.get("truncation") == "":
        settings["truncation"] = None
    stated = environment_settings(settings, environment) | settings
    try:
        read = Config.model_validate(stated)
    except ValidationError as error:
        raise ConfigurationError(_explanation(error, stated), provider=PROVIDER) from None
    _check_endpoint(read)
    if read.wants_tokens:
        _check_tokens(read)
    return read


def _check_endpoint(config: Config) -> None:
    older = config.use_completions
    if older is not None and config.endpoint not in ("auto", named_by(older)):
        message = (
            f"config key 'use_completions' is {older}, which means endpoint {named_by(older)!r},"
            f" but the config key 'endpoint' is {config.endpoint!r}: leave one of them out"
        )
        raise ConfigurationError(message, provider=PROVIDER)


def _check_tokens(config: Config) -> None:
    """Raise `ConfigurationError` for what hides the token ids that the config asks for."""
    key = "token_in" if config.token_in else "return_token_ids"
    unread = config.token_in and (config.stated_endpoint == "completions" or config.raw_prompt)
    hidden = config.extra_request_params.get("include_reasoning") is False
    conflicts = {
        "`endpoint: responses`, where vLLM tells no ids of gpt-oss, and none of a reply that breaks": (
            config.stated_endpoint == "responses"
        ),
        "`include_reasoning: false`, with which vLLM hides the ids": hidden,
        "`echo`, with which vLLM tells no ids of the prompt": config.echo,
        "`endpoint: completions` or `raw_prompt`, where the server does not read the reply": unread,
    }
    for conflict in (text for text, is_stated in conflicts.items() if is_stated):
        message = f"config key {key!r} cannot be used with {conflict}: leave one of them out"
        raise ConfigurationError(message, provider=PROVIDER)


def environment_settings(settings: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, str]:
    """The values of the environment for the keys that are not set. The API key is that of VLLM_BASE_URL alone."""
    found = {key: environment[name] for key, name in ENVIRONMENT.items() if environment.get(name)}
    base_url = settings.get("base_url")
    if base_url and not same_server(str(base_url), found.get("base_url", "")):
        found.pop("api_key", None)
    return {key: value for key, value in found.items() if settings.get(key) in (None, "")}


def _resolve(key: str, value: Json, environment: Mapping[str, str]) -> Json:
    match value:
        case str():
            return VARIABLE.sub(lambda variable: _value_of(key, variable, environment), value)
        case Mapping():
            return {name: _resolve(key, inner, environment) for name, inner in value.items()}
        case list():
            return [_resolve(key, inner, environment) for inner in value]
        case _:
            return value


def _value_of(key: str, variable: re.Match[str], environment: Mapping[str, str]) -> str:
    name, default = variable.groups()
    if default is None and name not in environment:
        raise ConfigurationError(f"config key {key!r} names the variable {name}, which is not set", provider=PROVIDER)
    return str(environment.get(name, default))


def unknown_keys(config: Mapping[str, object]) -> list[str]:
    """One sentence for each unknown key, with the nearest valid one."""
    return unknown_names("config key", config, Config.model_fields)


def unknown_names(
    kind: str,
    given: Iterable[str],
    known: Collection[str],
    otherwise: str = "put it under 'extra_request_params' if it is meant for vLLM",
) -> list[str]:
    """One sentence for each unknown name of this kind, with the nearest known one, or what to do if none is near."""
    sentences: list[str] = []
    for name in sorted(set(given).difference(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else otherwise
        sentences.append(f"unknown {kind} {name!r}: {hint}")
    return sentences


def _explanation(error: ValidationError, settings: Mapping[str, object]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    key = str(first["loc"][0])
    value = "(hidden)" if key in SECRETS else repr(settings.get(key))
    where = f" (or {ENVIRONMENT[key]})" if key in ENVIRONMENT else ""
    return f"config key {key!r}{where} is {value}: {first['msg'].lower()}. {Config.model_fields[key].description}."
