"""The documents match the code: tables, links, files, commands, configs and scripts are checked."""

import ast
import json
import logging
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from amplifier_core.testing import MockCoordinator

from amplifier_module_provider_vllm import VLLMProvider, mount
from amplifier_module_provider_vllm._config_reading import read_config, unknown_keys
from amplifier_module_provider_vllm._doctor.configured import read_instances
from amplifier_module_provider_vllm._doctor.parsers import Parsers, parsers_of
from amplifier_module_provider_vllm._harmony.vocabulary import CHECKSUMS
from tests.config_table import config_table, written_table
from tests.documents import (
    DOCUMENTS,
    FOLDERS,
    HOW_IT_WORKS,
    OFFLINE,
    README,
    REFERENCE,
    ROOT,
    USAGE,
    anchors,
    blocks,
    commands,
    languages,
    name_of,
    scripts,
    text,
)
from tests.rig.models import TINY_MODELS
from tests.support.session import open_session

PACKAGE = ROOT / "amplifier_module_provider_vllm"
MATRIX = ROOT / "examples" / "routing-matrix.yaml"
TARGETS = set(re.findall(r"^(\w+):", text(ROOT / "Makefile"), re.MULTILINE))

# The test that runs each command; `make` runs its targets, and commands without a test file run below.
RUN_BY = {
    "make demo": "tests/live/test_documents.py",
    "pip install .": "tests/live/test_install.py",
    "pip install '.[doctor]'": "tests/live/test_install.py",
    "amplifier-vllm doctor http://localhost:8000": "tests/live/test_documents.py",
    "amplifier-vllm doctor --config bundle.yaml": "tests/live/test_documents.py",
    "amplifier-vllm doctor --config bundle.yaml --json": "tests/live/test_documents.py",
}
VOCABULARY = blocks("sh", OFFLINE)[-1]
LAST_CALL, FAILURES = (line for line in commands(README) if line.startswith("grep "))

every_document = pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
every_guide = pytest.mark.parametrize("file", [*DOCUMENTS, *FOLDERS], ids=name_of)


def test_the_config_table_equals_the_config_model() -> None:
    assert written_table(text(README)) == config_table(), "run `python -m tests.config_table`"


def test_every_emitted_event_is_in_the_readme() -> None:
    constants = {node.value for node in ast.walk(_tree("_observability.py")) if isinstance(node, ast.Constant)}
    events = {one for one in constants if isinstance(one, str) and re.fullmatch(r"(llm|provider):[a-z_:]+", one)}

    assert {event for event in events if f"`{event}`" not in text(README)} == set()
    assert "llm:response" in events


@every_document
def test_every_block_has_a_language_that_is_checked(file: Path) -> None:
    assert languages(file) <= {"sh", "python", "yaml", "json", "text"}


@every_document
def test_every_command_is_run_by_a_test(file: Path) -> None:
    assert [command for command in commands(file) if not _is_run(command)] == []


def test_the_whole_suite_is_one_command() -> None:
    assert "exec make test\n" in text(ROOT / ".ci" / "run")


@every_document
def test_every_python_script_shows_the_output_that_the_live_tests_compare(file: Path) -> None:
    assert [script.code for script in scripts(file)] == blocks("python", file)


@pytest.mark.parametrize("script", [one for file in DOCUMENTS for one in scripts(file)], ids=lambda one: one.name)
def test_a_script_needs_nothing_but_the_installed_package(script: Any) -> None:
    tree = ast.parse(script.code)

    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules = plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= {
        "asyncio", "json", "os", "amplifier_core", "amplifier_module_provider_vllm",
    }  # fmt: skip


@every_guide
def test_every_link_leads_to_a_file_and_a_heading(file: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text(file)) if "://" not in link]

    assert [link for link in links if not _leads_somewhere(link, file)] == []


@every_guide
def test_every_path_and_module_that_is_named_exists(file: Path) -> None:
    folders = "amplifier_module_provider_vllm|ai_working|bench|docs|examples|tests"
    paths = re.findall(rf"`((?:{folders})/[\w./-]*)`", text(file))
    modules = re.findall(r"(?<![\w/.*-])(_[a-z]\w*(?:/\w+)*(?:\.py|/))", text(file))

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [module for module in modules if not (PACKAGE / module).exists()] == []


def test_the_table_of_modules_names_every_module_once() -> None:
    modules, _, folders = (
        text(HOW_IT_WORKS).partition("## The modules")[2].partition("\n## ")[0].partition("| folder |")
    )
    rooms = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", folders, re.MULTILINE))

    named = re.findall(r"`(\w+(?:\.py|/))`", modules)
    assert sorted(named) == names_in(PACKAGE)
    assert sorted(f"{room}/" for room in rooms) == [name for name in names_in(PACKAGE) if name.endswith("/")]
    for room, listed in rooms.items():
        assert sorted(re.findall(r"`(\w+\.\w+)`", listed)) == names_in(PACKAGE / room)


@every_guide
def test_every_command_in_running_text_exists(file: Path) -> None:
    targets = re.findall(r"`make (\w+)`", text(file))
    modules = re.findall(r"`(?:\.venv/bin/)?python -m ([\w.]+)", text(file))

    assert [target for target in targets if target not in TARGETS] == []
    assert [module for module in modules if find_spec(module) is None] == []


@pytest.mark.parametrize("block", [block for file in DOCUMENTS for block in blocks("yaml", file)])
def test_every_config_is_valid_for_amplifier_and_the_provider(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARGE_KEY", "sesame")

    _assert_configures(tmp_path / "bundle.yaml", block)


@pytest.mark.parametrize("block", [block for file in DOCUMENTS for block in blocks("json", file)])
def test_every_mount_plan_is_valid_for_amplifier_and_the_provider(block: str, tmp_path: Path) -> None:
    _assert_configures(tmp_path / "plan.json", block)


async def test_the_two_servers_of_the_readme_are_two_providers_in_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amplifier's app identifies entries by `id`, else by `module`, and passes `id` on as `instance_id`."""
    monkeypatch.setenv("LARGE_KEY", "sk-large")
    (block,) = [block for block in blocks("yaml", README) if block.count("provider-vllm") == 2]
    entries = {entry.get("id") or entry["module"]: entry for entry in yaml.safe_load(block)["providers"]}

    mounted = await _mount_all([entry | {"instance_id": name} for name, entry in entries.items()])

    assert mounted == {"small": 1, "large": 2}


def test_the_routing_matrix_has_the_roles_that_are_required_and_names_the_two_servers_of_the_readme() -> None:
    roles = yaml.safe_load(text(MATRIX))["roles"]
    candidates = [candidate for role in roles.values() for candidate in role["candidates"]]

    assert {"general", "fast"} <= roles.keys()
    assert all(role["description"] for role in roles.values())
    assert {candidate["provider"] for candidate in candidates} == {"small", "large"}
    assert all(candidate["model"] for candidate in candidates)


def test_the_config_of_every_candidate_of_the_routing_matrix_is_one_that_hooks_routing_accepts() -> None:
    """hooks-routing 6f8d744 compares a value with the `choices` of the provider's field of that name."""
    fields = VLLMProvider("http://localhost:8000").get_info().config_fields
    choices = {field.id: field.choices for field in fields if field.field_type == "choice"}
    configs = [
        one["config"]
        for role in yaml.safe_load(text(MATRIX))["roles"].values()
        for one in role["candidates"]
        if "config" in one
    ]

    given = [(key, value) for config in configs for key, value in config.items()]
    assert [(key, value) for key, value in given if value not in (choices.get(key) or [])] == []
    assert ("reasoning_effort", "none") in given


async def test_the_two_servers_of_the_mount_plan_are_two_providers_in_a_session() -> None:
    (block,) = blocks("json", USAGE)

    assert await _mount_all(json.loads(block)["providers"]) == {"small": 1, "large": 2}


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
def test_the_flags_equal_those_of_the_doctor(label: str, model: str) -> None:
    (flags,) = re.findall(rf"^\| {re.escape(label)} \| `(.*)` \|$", text(README), re.MULTILINE)

    tool_call, reasoning = re.search(r"tool-call-parser (\S+)", flags), re.search(r"reasoning-parser (\S+)", flags)
    assert Parsers(tool_call and tool_call[1], reasoning and reasoning[1]) == parsers_of(model, [])


def test_the_flags_of_qwen3_equal_those_of_the_test_server() -> None:
    assert f"| Qwen3 | `{' '.join(TINY_MODELS['tiny-qwen3'].parser_flags)}` |" in text(README)


def test_the_documented_command_puts_the_vocabulary_where_it_is_read(tmp_path: Path) -> None:
    for name in CHECKSUMS:
        (tmp_path / name).write_text(name)

    _shell(f"{VOCABULARY}\nls $TIKTOKEN_ENCODINGS_BASE", tmp_path)

    assert {file.name for file in (tmp_path / ".amplifier/cache/vocab").iterdir()} == CHECKSUMS.keys()
    assert set(re.findall(r"^\| `(.*)` \| `(\w{64})` \|$", text(OFFLINE), re.MULTILINE)) == set(CHECKSUMS.items())


def test_the_last_call_and_all_failures_are_found_in_chronological_order(tmp_path: Path) -> None:
    """Session folders are not in chronological order, and a resumed session writes to an old one."""
    logged = {
        "a": ('{"ts": "T12:00", "event": "llm:response", "status": "ok"}',),
        "b": (
            '{"ts": "T10:00", "event": "llm:request", "status": null}',
            '{"ts": "T10:01", "event": "provider:retry", "data": {"attempt": 1}}',
            '{"ts": "T10:02", "event": "llm:response", "status": "error"}',
        ),
        "c": (
            '{"ts": "T09:00", "event": "llm:stream_aborted", "data": {}}',
            '{"ts": "T09:01", "event": "llm:response", "status": "ok"}',
        ),
    }
    for session, lines in logged.items():
        folder = tmp_path / ".amplifier/projects/mine/sessions" / session
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")

    last, failures = (_shell(line, tmp_path).splitlines() for line in (LAST_CALL, FAILURES))

    assert last == [logged["a"][0]]
    assert failures == [logged["c"][0], *logged["b"][1:]]


async def test_the_documented_log_lines_are_those_that_are_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="amplifier_module_provider_vllm")
    (shown,) = blocks("text", REFERENCE)

    await mount(MockCoordinator(), {"temprature": 0})  # type: ignore[no-untyped-call]

    on_mount = [line for line in shown.splitlines() if line.startswith("[PROVIDER]")]
    assert sorted(on_mount) == sorted(record.message for record in caplog.records)


def _is_run(command: str) -> bool:
    if command in VOCABULARY.splitlines() or command in (LAST_CALL, FAILURES):
        return True
    if command in RUN_BY:
        return f'"{command}"' in text(ROOT / RUN_BY[command])
    match command.split():
        case ["make", target]:
            return target in TARGETS
        case [".venv/bin/python", "-m", "tests.rig", word]:
            return f'"{word}"' in text(ROOT / "tests" / "rig" / "__main__.py")
        case [".venv/bin/pytest", *arguments]:
            return all((ROOT / one).exists() for one in arguments if one.startswith("tests/"))
        case _:
            return False


def _leads_somewhere(link: str, file: Path) -> bool:
    name, _, anchor = link.partition("#")
    target = file.parent / name if name else file
    return target.exists() and (not anchor or anchor in anchors(target))


def _assert_configures(file: Path, block: str) -> None:
    file.write_text(block)

    instances = read_instances(file)

    assert instances != []
    for instance in instances:
        read_config(instance.config, {})
        assert (unknown_keys(instance.config), list(instance.findings)) == ([], [])


async def _mount_all(entries: list[dict[str, Any]]) -> dict[str, int]:
    """The instance names of these providers in a session, with their priorities; no server is contacted."""
    nowhere = {"base_url": "http://127.0.0.1:1"}
    async with open_session(*(entry | {"config": entry["config"] | nowhere} for entry in entries)) as session:
        return {name: provider.priority for name, provider in session.coordinator.get("providers").items()}


def _tree(module: str) -> ast.Module:
    return ast.parse(text(PACKAGE / module))


def _shell(script: str, home: Path) -> str:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", "-ec", script], cwd=home, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def names_in(folder: Path) -> list[str]:
    """The modules and folders in a folder of the package."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(("__", "py."))]
    return sorted(entry.name + "/" * entry.is_dir() for entry in entries)
