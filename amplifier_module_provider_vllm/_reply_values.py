"""Values of a reply as servers spell them: counts, ids, arguments, log probabilities, and how it ended."""

from collections.abc import Mapping
from typing import Final

import msgspec

from ._failure import Failure
from ._strict_json import Json, wire_value
from ._turn import TokenLogprob, TokenUsage

FINISH_FAILURES: Final[Mapping[str, Failure]] = {
    "abort": Failure("the server aborted the reply", kind="abort"),
    "error": Failure("the server ended the reply with an error that it does not name", kind="error"),
}
"""Those of the finish reasons that are errors: vLLM's engine aborts, OpenRouter has an error behind it."""

LOGPROBS: Final = list[TokenLogprob]


def count(counts: Json, key: str) -> int | None:
    """A count, read leniently: a whole number may come as a float or a string; anything else is no count."""
    value = counts.get(key) if isinstance(counts, Mapping) else None
    try:
        number = float(value) if isinstance(value, str | int | float) else -1.0
        return int(number) if number >= 0 and number.is_integer() else None
    except (ValueError, OverflowError):
        return None


def text_id(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def to_arguments(value: Json) -> str:
    """The arguments of a call as JSON; some gateways send the object itself."""
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return msgspec.json.encode(wire_value(value)).decode()


def read_logprobs(value: Json) -> list[TokenLogprob]:
    """The log probabilities in the shape of chat and responses; an odd one costs them, not the reply."""
    if not value:
        return []
    try:
        return msgspec.convert(value, LOGPROBS)
    except msgspec.ValidationError:
        return _odd_logprobs(value)


def _odd_logprobs(value: Json) -> list[TokenLogprob]:
    try:
        return msgspec.convert(_without_nulls(value), LOGPROBS)
    except msgspec.ValidationError:
        return []


def _without_nulls(value: Json) -> Json:
    """The value without fields that are null, as some servers write those that they do not have."""
    match value:
        case Mapping():
            return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
        case list():
            return [_without_nulls(inner) for inner in value]
        case _:
            return value


def chat_usage(usage: Json) -> TokenUsage | None:
    """The usage of a chat or text completion; None without the two counts that every server has."""
    input_tokens, output_tokens = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    if not isinstance(usage, Mapping) or input_tokens is None or output_tokens is None:
        return None
    input_details, output_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=count(output_details, "reasoning_tokens"),
        cached_tokens=count(input_details, "cached_tokens"),
        cache_write_tokens=count(input_details, "created_cache_tokens"),
    )
