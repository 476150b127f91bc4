"""Values of a reply as servers spell them: counts, ids, arguments of calls and log probabilities."""

from collections.abc import Mapping

import msgspec

from ._strict_json import Json, wire_value
from ._turn import TokenLogprob


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
        return msgspec.convert(value, list[TokenLogprob])
    except msgspec.ValidationError:
        return []
