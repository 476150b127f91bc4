"""Decode a model's or server's JSON strictly, so that the kernel can encode the result again."""

import json
import math
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 100
"""Levels; the kernel's hooks raise for a payload deeper than 127."""


def read_json(text: str | bytes) -> Any:
    """Raises `ValueError` for invalid JSON and values that cannot be encoded again: NaN, 1e999, too deep nesting."""
    try:
        value = json.loads(text, parse_constant=_reject_constant, parse_float=_parse_float)
        # An escaped lone surrogate cannot be encoded as UTF-8.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if _is_deeper_than(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _parse_float(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number:.20} is too large")
    return value


def _is_deeper_than(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [inner for each in level if isinstance(each, dict | list) for inner in _children(each)]
        if not level:
            return False
    return True


def _children(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
