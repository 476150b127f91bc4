"""JSON of a model or server is accepted only if every later consumer can serialise it."""

import json
from typing import Any

import pytest

from amplifier_module_provider_vllm._strict_json import MAX_DEPTH, read_json


def nested_arrays(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("value", [None, 0, -1.5, "Zü 🗼", [], {}, {"a": [1, {"b": None}]}, 10**300])
def test_valid_json_is_parsed(value: Any) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ('{"city": "Par', "Unterminated string"),
        ("NaN", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("1e999", "1e999 is too large"),
        ("8" * 5000, "Exceeds the limit"),
        (r'"\ud83d"', "surrogates not allowed"),
        (b'"\xff"', "can't decode byte"),
        (nested_arrays(MAX_DEPTH + 1), "nested deeper than 100 levels"),
        ("[" * 100_000, "nested too deep"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_serialised_again_are_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(text)


def test_the_nesting_limit_is_that_of_the_kernels_hooks() -> None:
    assert read_json(nested_arrays(MAX_DEPTH - 1))
