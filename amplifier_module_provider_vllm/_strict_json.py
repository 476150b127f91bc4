"""Decode JSON strictly, so that the kernel can encode the result again, and make values fit to be encoded."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | float | None
"""A JSON value. Read-only types: a list of one kind of object is one too."""

T = TypeVar("T", bound=Json)

MAX_DEPTH: Final = 100
"""Levels; the kernel's hooks raise for a payload deeper than 127."""


def read_json(text: str | bytes) -> Json:
    """Raises `ValueError` for invalid JSON and values that cannot be encoded again: NaN, 1e999, too deep nesting."""
    try:
        value: Json = json.loads(text, parse_constant=_reject_constant, parse_float=_parse_float)
        # An escaped lone surrogate cannot be encoded as UTF-8.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if _is_deeper_than(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def json_end(text: str, start: int) -> int:
    """The place after the JSON value that starts at this place. Raises `ValueError` if none does."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[1]
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def is_json_object(text: str) -> bool:
    try:
        return isinstance(read_json(text), dict)
    except ValueError:
        return False


def wire_value(value: T) -> T:
    """The same value with `wire_text` applied to every string in it, keys included."""
    match value:
        case str():
            encodable: Any = wire_text(value)
        case dict():
            encodable = {wire_value(key): wire_value(inner) for key, inner in value.items()}
        case list():
            encodable = [wire_value(inner) for inner in value]
        case _:
            encodable = value
    result: T = encodable
    return result


def wire_text(text: str) -> str:
    """The text with surrogates paired or replaced: vLLM rejects a lone one with 400."""
    if text.isascii():  # O(1): every string stores this flag
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _parse_float(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number:.20} is too large")
    return value


def _is_deeper_than(value: Json, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [inner for each in level if isinstance(each, dict | list) for inner in _children(each)]
        if not level:
            return False
    return True


def _children(value: dict[str, Json] | list[Json]) -> list[Json]:
    return list(value.values()) if isinstance(value, dict) else value
