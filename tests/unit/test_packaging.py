"""The tests run with the versions that pyproject.toml promises."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_lowest_environment_has_the_lowest_version_of_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = [re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<\d+)?", dependency) for dependency in project["dependencies"]]
    pinned = [line for line in (ROOT / "tests" / "lowest.txt").read_text().splitlines() if not line.startswith("#")]

    assert sorted(f"{found[1]}=={found[2]}" for found in allowed if found) == sorted(pinned)
    assert None not in allowed


@pytest.mark.parametrize(
    ("module", "mount"),
    [
        ("provider-vllm", "amplifier_module_provider_vllm:mount"),
        ("hooks-vllm-tokens", "amplifier_module_hooks_vllm_tokens:mount"),
    ],
)
def test_amplifier_finds_a_module_by_its_entry_point(module: str, mount: str) -> None:
    (found,) = entry_points(group="amplifier.modules", name=module)

    assert found.value == mount
