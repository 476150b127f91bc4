"""Read config files and `keys.env` into plain values: a file that is too large, too deep or recursive is an error."""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import yaml

T = TypeVar("T")

Node: TypeAlias = Mapping[Any, "Node"] | list["Node"] | str | float | None
"""What a config file holds; the keys of YAML need not be strings."""

MOST_CHARACTERS: Final = 250_000
"""Parsing takes seconds at worst: YAML's base-60 numbers cost the square of their length."""
MOST_VALUES: Final = 100_000
"""With aliases resolved: 480 bytes of nested aliases stand for more values than a machine can visit."""
DEEPEST: Final = 100

CONSTRUCTOR_ERRORS: Final = (yaml.YAMLError, LookupError, AttributeError, TypeError)
"""What PyYAML raises for a value that is not of its tag, such as `!!int ''`, beside `ValueError`."""


def read_values(path: Path) -> Node:
    """The values of a YAML, TOML or JSON file, or of a bundle's front matter.

    Raises `ValueError` for a file that is none of these, `OSError` for one that cannot be read.
    """
    with path.open(encoding="utf-8") as file:
        text = file.read(MOST_CHARACTERS + 1)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it is longer than {MOST_CHARACTERS:,} characters")
    try:
        return _parse(path.suffix, text)
    except RecursionError:
        raise ValueError(_too_deep()) from None


def read_keys(path: Path) -> dict[str, str]:
    """The variables of a `keys.env`, as Amplifier's app reads it: the first counts; empty if it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = [line.partition("=") for line in lines if "=" in line and not line.strip().startswith("#")]
    return {name.strip(): value.strip().strip('"').strip("'") for name, _, value in reversed(pairs)}


def _parse(suffix: str, text: str) -> Node:
    match suffix:
        case ".toml":
            values: Node = tomllib.loads(text)
        case ".json":
            values = json.loads(text)
        case _:
            return _yaml(text)
    _check_size(values, _values_in)
    return values


def _yaml(text: str) -> Node:
    front_matter = re.match(r"---\r?\n(.*?)\r?\n---\s*$", text, re.DOTALL | re.MULTILINE)
    try:
        values: Node = _LimitedLoader(front_matter[1] if front_matter else text).get_single_data()
    except CONSTRUCTOR_ERRORS as error:
        raise ValueError(f"it is not YAML: {error}") from error
    return values


class _LimitedLoader(yaml.SafeLoader):
    def get_single_node(self) -> yaml.Node | None:
        root = super().get_single_node()
        if root is not None:
            _check_size(root, _nodes_in)  # before merge keys (`<<`) are resolved, which can take for ever too
        return root


def _check_size(root: T, inner: Callable[[T], Iterable[T]]) -> None:
    waiting, count = [(root, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > DEEPEST:
            raise ValueError(_too_deep())
        if count > MOST_VALUES:
            raise ValueError(f"it stands for more than {MOST_VALUES:,} values, with its aliases resolved")
        waiting += [(one, depth + 1) for one in inner(value)]


def _values_in(value: Node) -> Iterable[Node]:
    match value:
        case Mapping():
            return value.values()
        case list():
            return value
        case _:
            return ()


def _nodes_in(node: yaml.Node) -> Iterable[yaml.Node]:
    match node:
        case yaml.MappingNode(value=pairs):
            return [one for pair in pairs for one in pair]
        case yaml.SequenceNode(value=nodes):
            return list(nodes)
        case _:
            return ()


def _too_deep() -> str:
    return f"it is nested deeper than {DEEPEST} levels, or contains itself"
