"""The README says what is true: its table is the config model's, its commands exist."""

import re

from tests.config_table import README, config_table, written_table

ROOT = README.parent


def test_the_config_table_is_the_config_model() -> None:
    assert written_table(README.read_text()) == config_table(), "run `python -m tests.config_table`"


def test_every_command_in_the_readme_is_run_by_the_suite_or_is_the_suite() -> None:
    commands = {
        line
        for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
        for line in block.split("\n")
        if line
    }

    assert commands == {"make demo", "make test"}
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert '["make", "demo"]' in (ROOT / "tests" / "live" / "test_readme.py").read_text()


def test_every_file_that_the_readme_names_exists() -> None:
    named = re.findall(r"`((?:tests|examples|amplifier_module_provider_vllm)/[\w./-]+)`", README.read_text())

    assert [name for name in named if not (ROOT / name).exists()] == []
    assert named != []
