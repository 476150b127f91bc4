"""The commands and scripts of the documents, run as a reader would."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, README, ROOT, Script, blocks, scripts
from tests.rig.server import LiveServer

pytestmark = pytest.mark.live

DOCTOR = "amplifier-vllm doctor http://localhost:8000"
DOCTOR_OF_A_FILE = "amplifier-vllm doctor --config bundle.yaml"
DOCTOR_FOR_SCRIPTS = "amplifier-vllm doctor --config bundle.yaml --json"


def run(command: list[str], folder: Path = ROOT, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("script", [one for file in DOCUMENTS for one in scripts(file)], ids=lambda one: one.name)
def test_a_script_prints_the_documented_output_on_tiny_qwen3(qwen: LiveServer, tmp_path: Path, script: Script) -> None:
    file = tmp_path / "script.py"
    file.write_text(script.code)

    printed = run([sys.executable, str(file)], tmp_path, VLLM_BASE_URL=qwen.base_url)

    assert printed == script.output


def test_the_doctor_prints_the_checks_of_the_readme_on_tiny_qwen3(qwen: LiveServer) -> None:
    shown = next(block for block in blocks("text", README) if block.startswith("vllm: "))

    output = run([word.replace("http://localhost:8000", qwen.base_url) for word in shlex.split(DOCTOR)])

    assert _checks(output) == _checks(shown)
    assert output.endswith("A session would work.\n")


def test_both_servers_of_the_readme_are_examined(qwen: LiveServer, gpt_oss: LiveServer, tmp_path: Path) -> None:
    (two,) = [block for block in blocks("yaml", README) if block.count("provider-vllm") == 2]
    bundle = two.replace("http://gpu-1:8000", qwen.base_url).replace("https://gpu-2.example.com", gpt_oss.base_url)
    (tmp_path / "bundle.yaml").write_text(bundle)

    plain = run(shlex.split(DOCTOR_OF_A_FILE), tmp_path, LARGE_KEY="any")
    scripted = json.loads(run(shlex.split(DOCTOR_FOR_SCRIPTS), tmp_path, LARGE_KEY="any"))

    assert f"small: {qwen.base_url}" in plain
    assert f"large: {gpt_oss.base_url}" in plain
    assert [(one["name"], one["works"]) for one in scripted["providers"]] == [("small", True), ("large", True)]


@pytest.mark.usefixtures("qwen")
def test_make_demo_prints_the_weather_in_paris_from_a_real_tool_call_on_tiny_qwen3() -> None:
    output = run(shlex.split("make demo"), VLLM_BASE_URL="")

    assert 'get_weather(city="Paris")' in output
    assert "It is sunny and 21 degrees in Paris." in output


def _checks(output: str) -> list[str]:
    """The names of the checks, in order."""
    return [line[8:23].strip() for line in output.splitlines() if line[2:6].strip() in ("ok", "note", "fail")]
