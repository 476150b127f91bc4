"""Import rules between the folders of tests/: suites share only `support` and `rig`."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = {"unit", "contract", "faults", "fuzz", "live", "soak"}
FILES = [
    path.relative_to(ROOT)
    for folder in ("tests", "bench", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "recordings" not in path.parts
]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_suite_imports_nothing_from_another(file: Path) -> None:
    own = file.parts[1] if file.parts[0] == "tests" else None
    borrowed = {name for name in imports_of(file) if name.startswith("tests.") and name.split(".")[1] in SUITES - {own}}

    assert borrowed == set()


def test_every_suite_is_listed() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}

    assert folders == SUITES


@pytest.mark.parametrize(
    ("marker", "suites"),
    [
        ([], {"unit"}),
        (["-m", "live"], {"live"}),
        (["-m", "live and not soak"], {"live"}),
        (["-m", "soak"], {"live", "soak"}),
    ],
    ids=["neither", "live", "live without soak", "soak"],
)
def test_live_and_soak_tests_run_only_if_their_marker_is_named(marker: list[str], suites: set[str]) -> None:
    paths = ["tests/unit/test_live_rig_pool.py", "tests/live", "tests/soak"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *paths, *marker]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603

    assert set(re.findall(r"^tests/(\w+)/\S+::", done.stdout, re.MULTILINE)) == suites
    assert done.returncode == 0, done.stdout[-2000:]


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
