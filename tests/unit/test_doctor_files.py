"""Config files that would hang or break a parser, and `keys.env`."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._doctor.files import read_keys, read_values

LEVELS = "abcdefgh"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(LEVELS)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name}\n  <<: [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(LEVELS)
)
TOO_DEEP = "it is nested deeper than 100 levels, or contains itself"
TOO_MANY = "it stands for more than 100,000 values, with its aliases resolved"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("a.yaml", BOMB, TOO_MANY, id="nested aliases"),
        pytest.param("a.yaml", MERGE_BOMB, TOO_MANY, id="nested merge keys"),
        pytest.param("a.yaml", "a: &a [*a]", TOO_DEEP, id="a list that contains itself"),
        pytest.param("a.yaml", "providers: &a {module: provider-vllm, config: *a}", TOO_DEEP, id="a recursive config"),
        pytest.param("a.yaml", "[" * 100_000, TOO_DEEP, id="deep yaml"),
        pytest.param("a.md", f"---\n{'- ' * 500}\n---\n", TOO_DEEP, id="deep front matter"),
        pytest.param("a.json", "[" * 100_000, TOO_DEEP, id="deep json"),
        pytest.param("a.json", "[" * 500 + "]" * 500, TOO_DEEP, id="json that only its parser can read"),
        pytest.param("a.toml", f"a = {'[' * 500}{']' * 500}", TOO_DEEP, id="deep toml"),
        pytest.param("a.yaml", "1" + ":11" * 200_000, "it is longer than 250,000 characters", id="a large file"),
        pytest.param("a.yaml", "a: !!int ''", "it is not YAML: string index out of range", id="an empty number"),
        pytest.param("a.yaml", "a: !!timestamp x", "it is not YAML: ", id="a date that is none"),
        pytest.param("a.yaml", "a: 2026-13-45", "month must be in", id="a thirteenth month"),
    ],
)
def test_a_hostile_file_is_an_error_at_once(name: str, text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    started = time.monotonic()

    with pytest.raises(ValueError, match=r".") as raised:
        read_values(file)

    assert str(raised.value).startswith(message)
    assert time.monotonic() - started < 10


def test_aliases_and_merge_keys_of_a_normal_size_are_resolved(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("base: &base {top_p: 1}\none: {<<: *base, priority: 2}\ntwo: *base\n")

    assert read_values(file) == {"base": {"top_p": 1}, "one": {"top_p": 1, "priority": 2}, "two": {"top_p": 1}}


def test_a_keys_file_is_read_as_the_app_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.env"
    file.write_text("# Amplifier API Keys\n\n A = \"a=b\"\nB='b'\nA=later\n#C=c\nnothing\nD=\n", encoding="utf-8")

    assert read_keys(file) == {"A": "a=b", "B": "b", "D": ""}


@pytest.mark.parametrize("content", [None, b"\xff=\xfe"], ids=["none", "not text"])
def test_a_keys_file_that_cannot_be_read_is_empty(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "keys.env"
    if content is not None:
        file.write_bytes(content)

    assert read_keys(file) == {}
