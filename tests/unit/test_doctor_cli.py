"""The doctor's command line: arguments, exit status, interruption."""

import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._doctor.cli import main

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


def test_every_provider_of_a_file_is_examined(
    closed_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.yaml"
    entries = [f"{{module: provider-vllm, instance_id: {n}, config: {{base_url: '{closed_url}'}}}}" for n in ("a", "b")]
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


def test_a_closed_pipe_prints_no_traceback(closed_url: str) -> None:
    command = f"{sys.executable} -m amplifier_module_provider_vllm doctor {closed_url} | true"

    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602

    assert done.stderr == ""
