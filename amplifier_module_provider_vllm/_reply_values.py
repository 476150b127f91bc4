"""Values of a reply as servers spell them: counts, ids and arguments of calls."""

from collections.abc import Mapping

import msgspec

from ._strict_json import Json, wire_value


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
