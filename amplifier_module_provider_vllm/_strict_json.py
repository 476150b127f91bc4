"""JSON that a model or a server wrote, read strictly: what comes out can be passed on, by the kernel too."""

import json
import math
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 100
"""Levels; the kernel's hooks raise for a payload of more than 127."""


def read_json(text: str | bytes) -> Any:
    """Raises `ValueError` for what is no JSON, and for what nobody could write again: NaN, 1e999, endless nesting."""
    try:
        read = json.loads(text, parse_constant=_no_json, parse_float=_finite)
        # Half of a pair of surrogates, written as an escape, is text that no encoding has.
        json.dumps(read, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested without end") from error
    if _nested_deeper(read, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return read


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(number: str) -> float:
    read = float(number)
    if math.isinf(read):
        raise ValueError(f"{number:.20} is too large a number")
    return read


def _nested_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [inner for each in level if isinstance(each, dict | list) for inner in _inside(each)]
        if not level:
            return False
    return True


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
