"""The table "To add X, touch Y" of CONTRIBUTING.md matches the code."""

import ast
import re
from collections.abc import Iterator
from typing import TypeVar, get_args

import pytest

from amplifier_module_provider_vllm._config import Config
from amplifier_module_provider_vllm._responses.events import Event
from amplifier_module_provider_vllm._turn import Item
from tests.config_table import config_table
from tests.documents import CONTRIBUTING, README, ROOT, blocks, text

Node = TypeVar("Node", bound=ast.AST)

PACKAGE = ROOT / "amplifier_module_provider_vllm"
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
TABLE = text(CONTRIBUTING).partition("## To add X, touch Y")[2].partition("\n## ")[0]
ROWS = {
    name: (touch, tests) for name, touch, tests in re.findall(r"^\| (an? .*?) \| (.*) \| (.*) \|$", TABLE, re.MULTILINE)
}


def named_modules(addition: str) -> set[str]:
    """The modules that the table names for an addition."""
    return set(re.findall(r"`(_[\w/]+\.py)`", ROWS[addition][0]))


def test_every_kind_of_addition_has_a_row() -> None:
    assert list(ROWS) == [
        "a config key", "a hook event", "an event of the server's stream", "an item kind", "an error wording",
        "a model family", "an endpoint", "a doctor check", "a retry rule",
    ]  # fmt: skip


@pytest.mark.parametrize("addition", ROWS)
def test_every_module_and_test_of_a_row_exists(addition: str) -> None:
    modules, tests = named_modules(addition), re.findall(r"`(tests/[\w/.]+)`", ROWS[addition][1])

    assert [module for module in modules if module not in TREES] == []
    assert [test for test in tests if not (ROOT / test).exists()] == []
    assert modules != set()
    assert tests != []


def test_config_keys_are_fields_of_the_first_module_and_rows_of_the_table_that_is_written() -> None:
    assert f"{Config.__module__.rpartition('.')[2]}.py" in named_modules("a config key")
    assert [key for key in Config.model_fields if f"| `{key}` |" not in config_table()] == []


def test_events_are_emitted_nowhere_else() -> None:
    emitting = {
        module for module, node in nodes(ast.Call) if isinstance(node.func, ast.Attribute) and node.func.attr == "emit"
    }

    assert emitting == named_modules("a hook event")


def test_every_event_of_the_stream_is_a_class_and_a_case() -> None:
    events, fold = "_responses/events.py", "_responses/fold.py"
    classes = {node.name for module, node in nodes(ast.ClassDef) if module == events}
    cases = {name for module, name in matched_classes() if module == fold}

    assert {event.__name__ for event in get_args(Event)} <= classes & cases
    assert named_modules("an event of the server's stream") == {events, fold}


def test_every_module_that_matches_on_item_kinds_is_named() -> None:
    kinds = {kind.__name__ for kind in get_args(Item)}
    matching = {module for module, name in matched_classes() if name in kinds - {"Text"}}

    assert matching | {"_turn.py", "_responses/items.py"} == named_modules("an item kind")


def test_error_phrases_stand_nowhere_else() -> None:
    assigned = {
        (module, target.id)
        for module, node in nodes(ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    assert {module for module, name in assigned if re.search(r"_(PHRASES|WORDS)$", name)} == named_modules(
        "an error wording"
    )


def test_an_endpoint_is_a_folder_of_three_modules() -> None:
    folders = {module.rpartition("/")[0] for module in TREES if module.endswith("/encode.py")}

    assert {f"{folder}/{part}.py" for folder in folders for part in ("encode", "events", "fold")} <= TREES.keys()
    assert "_responses" in folders


def test_every_doctor_check_of_the_readme_is_in_the_named_modules() -> None:
    (sample,) = [block for block in blocks("text", README) if block.startswith("vllm: ")]
    checks = {line[8:23].strip() for line in sample.splitlines() if line[2:6].strip() in ("ok", "note", "fail")}
    made = {node.value for module, node in nodes(ast.Constant) if module in named_modules("a doctor check")}

    assert checks - made == set()
    assert "round trip" in checks


def test_retries_are_decided_nowhere_else() -> None:
    retrying = {module for module, node in nodes(ast.Name) if node.id in ("retry_with_backoff", "RetryConfig")}
    retryable = {module for module, node in nodes(ast.keyword) if node.arg == "retryable"}

    assert retrying <= named_modules("a retry rule")
    assert retryable - {"_rounds.py"} <= named_modules("a retry rule")


def nodes(kind: type[Node]) -> Iterator[tuple[str, Node]]:
    """Every node of a kind, with its module."""
    return ((module, node) for module, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kind))


def matched_classes() -> Iterator[tuple[str, str]]:
    """The classes in the `case` patterns of each module."""
    return ((module, node.cls.id) for module, node in nodes(ast.MatchClass) if isinstance(node.cls, ast.Name))
