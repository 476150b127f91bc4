"""The README says what is true: its table is the config model's, its files, commands and configs are tried."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._config import read_config, unknown_keys
from amplifier_module_provider_vllm._doctor.configured import read_instances
from amplifier_module_provider_vllm._doctor.parsers import Parsers, parsers_of
from amplifier_module_provider_vllm._harmony.vocabulary import CHECKSUMS
from tests.config_table import config_table, written_table
from tests.documents import CONTRIBUTING, README, ROOT, blocks, commands
from tests.rig.models import TINY_MODELS

# Where a command is tried; what stands in no test here or there is tried by the suite's own target in .ci/run.
TRIED = {
    "make demo": "tests/live/test_documents.py",
    "pip install .": "tests/live/test_install.py",
    "pip install '.[doctor]'": "tests/live/test_install.py",
    "amplifier-vllm doctor http://localhost:8000": "tests/live/test_documents.py",
    "amplifier-vllm doctor --config bundle.yaml": "tests/live/test_documents.py",
    "amplifier-vllm doctor --config bundle.yaml --json": "tests/live/test_documents.py",
}


def test_the_config_table_is_the_config_model() -> None:
    assert written_table(README.read_text()) == config_table(), "run `python -m tests.config_table`"


def test_every_command_is_tried() -> None:
    here = set(blocks("sh")[-1].splitlines()) | {line for line in commands() if line.startswith("grep ")}

    assert set(commands()) - here == {*TRIED, "make test"}
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert [command for command, file in TRIED.items() if f'"{command}"' not in (ROOT / file).read_text()] == []


def test_every_command_of_the_contributors_guide_is_a_target_or_the_rig() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for command in commands(CONTRIBUTING):
        match command.split():
            case ["make", target, *_]:
                assert target in targets
            case ["python", "-m", "tests.rig", word, *_]:
                assert f'"{word}"' in (ROOT / "tests" / "rig" / "__main__.py").read_text()
            case [".venv/bin/pytest", *arguments]:
                assert [one for one in arguments if one.startswith("tests/") and not (ROOT / one).exists()] == []
            case _:
                pytest.fail(f"nothing tries {command!r}")


@pytest.mark.parametrize("file", [README, CONTRIBUTING], ids=lambda file: file.name)
def test_every_file_that_is_named_exists(file: Path) -> None:
    text = file.read_text()
    named = re.findall(r"`((?:tests|examples|ai_working|bench|amplifier_module_provider_vllm)/[\w./-]*)`", text)
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]

    assert [name for name in [*named, *linked] if not (ROOT / name).exists()] == []
    assert named != []


def test_every_heading_that_is_linked_exists() -> None:
    text = README.read_text()
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_config_is_one_that_amplifier_and_the_provider_take(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("GPU_KEY", "LARGE_KEY"):
        monkeypatch.setenv(variable, "sesame")
    file = tmp_path / "bundle.yaml"
    file.write_text(block)

    instances = read_instances(file)

    assert instances != []
    for instance in instances:
        read_config(instance.config, {})
        assert (unknown_keys(instance.config), list(instance.findings)) == ([], [])


@pytest.mark.parametrize(
    ("label", "model"),
    [
        ("Qwen3", "Qwen/Qwen3-8B"),
        ("Qwen3-Coder", "Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        ("Llama 3", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Mistral", "mistralai/Mistral-Small-3.2-24B-Instruct-2506"),
        ("DeepSeek-R1", "deepseek-ai/DeepSeek-R1"),
    ],
)
def test_the_flags_are_those_that_the_doctor_names(label: str, model: str) -> None:
    (flags,) = re.findall(rf"^\| {re.escape(label)} \| `(.*)` \|$", README.read_text(), re.MULTILINE)

    tool_call, reasoning = re.search(r"tool-call-parser (\S+)", flags), re.search(r"reasoning-parser (\S+)", flags)
    assert Parsers(tool_call and tool_call[1], reasoning and reasoning[1]) == parsers_of(model, [])


def test_the_flags_of_qwen3_are_those_that_the_tests_serve_it_with() -> None:
    assert f"| Qwen3 | `{' '.join(TINY_MODELS['tiny-qwen3'].parser_flags)}` |" in README.read_text()


def test_the_vocabulary_goes_where_the_readme_puts_it(tmp_path: Path) -> None:
    script = blocks("sh")[-1]
    for name in CHECKSUMS:
        (tmp_path / name).write_text(name)

    _shell(f"{script}\nls $TIKTOKEN_ENCODINGS_BASE", tmp_path)

    assert {file.name for file in (tmp_path / ".amplifier/cache/vocab").iterdir()} == CHECKSUMS.keys()


def test_the_events_are_found_where_amplifier_writes_them(tmp_path: Path) -> None:
    session = tmp_path / ".amplifier/projects/mine/sessions/1"
    session.mkdir(parents=True)
    lines = [
        '{"event": "llm:request", "status": null}',
        '{"event": "provider:retry", "data": {"attempt": 1}}',
        '{"event": "llm:response", "status": "error"}',
        '{"event": "llm:response", "status": "ok"}',
    ]
    (session / "events.jsonl").write_text("\n".join(lines) + "\n")

    last, wrong = (_shell(line, tmp_path) for line in commands() if line.startswith("grep "))

    assert last.splitlines() == lines[3:]
    assert wrong.splitlines() == lines[1:3]


def _shell(script: str, home: Path) -> str:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", "-ec", script], cwd=home, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout
