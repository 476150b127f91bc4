"""The doctor's command line: arguments, exit status, interruption."""

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._cli import main
from tests.support.replay import ReplayServer

pytestmark = pytest.mark.usefixtures("clean_environment")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def closed_url() -> str:
    """A URL of a closed port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent_port() -> Iterator[socket.socket]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_the_status_of_an_unreachable_server_is_1(closed_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", closed_url]) == 1

    said = capsys.readouterr().out
    assert f"base_url        {closed_url}  (command line)" in said
    assert "fail  reachable" in said


def test_the_server_comes_from_the_environment_if_the_command_names_none(
    closed_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", closed_url)
    monkeypatch.setenv("VLLM_API_KEY", "hunter2")

    assert main(["doctor", "--model", "qwen"]) == 1

    said = capsys.readouterr().out
    assert f"base_url        {closed_url}  (VLLM_BASE_URL)" in said
    assert "api_key         set, hidden  (VLLM_API_KEY)" in said
    assert "default_model   qwen  (command line)" in said
    assert "hunter2" not in said


def test_an_invalid_url_is_corrected_where_it_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "localhost:8000"]) == 1
    assert "give the URL with its scheme: `amplifier-vllm doctor http://localhost:8000`" in capsys.readouterr().out

    monkeypatch.setenv("VLLM_BASE_URL", "localhost:8000")
    assert main(["doctor"]) == 1
    assert "-> correct VLLM_BASE_URL" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])

    assert left.value.code == 0
    assert capsys.readouterr().out == f"amplifier-vllm {version('amplifier-module-provider-vllm')}\n"


async def test_the_key_that_the_wizard_stored_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / ".amplifier"
    folder.mkdir()
    (folder / "keys.env").write_text('VLLM_API_KEY="sesame-open"\n')
    async with ReplayServer() as server:
        config = f"{{base_url: '{server.base_url}', api_key: '${{VLLM_API_KEY}}'}}"
        (folder / "settings.yaml").write_text(f"config: {{providers: [{{module: provider-vllm, config: {config}}}]}}")
        await asyncio.to_thread(main, ["doctor", "--config", str(folder / "settings.yaml")])

    assert "Bearer sesame-open" in [request.headers.get("authorization") for request in server.requests]
    assert "sesame-open" not in capsys.readouterr().out


ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_no_escape_sequence_of_a_config_reaches_the_terminal(
    as_json: bool, closed_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"plan{ESCAPE}.json"
    config = {"base_url": closed_url, "default_model": ESCAPE, "extra_request_params": {ESCAPE: ESCAPE}, ESCAPE: 1}
    entries = [{"module": "provider-vllm", "instance_id": f"{name}{ESCAPE}", "config": config} for name in "ab"]
    file.write_text(json.dumps({"providers": entries}))

    assert main(["doctor", "--config", str(file), *["--json"] * as_json]) == 1

    shown = capsys.readouterr()
    assert "owned" in shown.out
    assert {one for one in shown.out + shown.err if not one.isprintable()} == {"\n"}


@pytest.mark.parametrize(
    "text", [f'providers: ["{ESCAPE}', '{"providers": [{"module": "provider-vllm", "config": 1, "id": "\\u001b[2J"}]}']
)
def test_no_escape_sequence_of_a_file_that_cannot_be_read_reaches_the_terminal(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"bundle{ESCAPE}.yaml"
    file.write_text(text)

    assert main(["doctor", "--config", str(file)]) == 2

    assert {one for one in capsys.readouterr().err if not one.isprintable()} == {"\n"}


def test_a_file_of_nested_aliases_is_rejected_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bundle.yaml"
    levels = [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise("abcdefgh")]
    file.write_text("\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *levels, "providers: *h"]))

    assert main(["doctor", "--config", str(file)]) == 2

    assert "it stands for more than 100,000 values" in capsys.readouterr().err


def test_every_provider_of_a_file_is_examined(
    closed_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.yaml"
    entries = [f"{{module: provider-vllm, id: {n}, config: {{base_url: '{closed_url}'}}}}" for n in ("a", "b")]
    file.write_text(f"providers: [{', '.join(entries)}]")

    assert main(["doctor", "--config", str(file), "--json"]) == 1

    said = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["works"]) for one in said["providers"]] == [("a", False), ("b", False)]
    assert {"key": "base_url", "value": closed_url, "source": "bundle.yaml"} in said["providers"][0]["settings"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "cannot read", id="no file"),
        pytest.param("providers: [", "cannot read", id="no yaml"),
        pytest.param("providers: []", "has no provider with `module: provider-vllm`", id="no provider"),
    ],
)
def test_the_status_of_a_file_without_a_provider_is_2(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.yaml"
    if text is not None:
        file.write_text(text)

    assert main(["doctor", "--config", str(file)]) == 2

    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("arguments", [[], ["doctor", "http://a", "--config", "b"], ["cure"]])
def test_the_status_of_an_invalid_command_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)

    assert left.value.code == 2


def test_logging_is_restored(closed_url: str) -> None:
    main(["doctor", closed_url])

    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_ctrl_c_ends_at_once_and_shows_the_findings_so_far(silent_port: socket.socket, as_json: bool) -> None:
    url = f"http://127.0.0.1:{silent_port.getsockname()[1]}"
    command = [sys.executable, "-m", "amplifier_module_provider_vllm", "doctor", url, *["--json"] * as_json]
    with subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as doctor:
        looked, asked = silent_port.accept(), silent_port.accept()
        doctor.send_signal(signal.SIGINT)
        out, err = doctor.communicate(timeout=10)
    for connection, _ in (looked, asked):
        connection.close()

    assert doctor.returncode == 130
    assert err == ""
    assert json.loads(out)["stopped"] if as_json else out.endswith("Stopped before everything was checked.\n")


@pytest.mark.parametrize("reader", ["true", "head -n 8"], ids=["at once", "before the verdict"])
def test_a_closed_pipe_prints_no_traceback(reader: str, closed_url: str) -> None:
    command = f"{sys.executable} -m amplifier_module_provider_vllm doctor {closed_url} | {reader}"

    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602

    assert done.stderr == ""
