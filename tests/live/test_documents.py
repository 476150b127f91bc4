"""What the README promises, done as its reader would do it."""

import ast
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks
from tests.rig.server import LiveServer

pytestmark = pytest.mark.live

SESSION, USE = blocks("python")
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


def test_the_session_in_the_readme_answers_on_tiny_qwen3(qwen: LiveServer, tmp_path: Path) -> None:
    script = tmp_path / "session.py"
    script.write_text(SESSION)

    said = run([sys.executable, str(script)], VLLM_BASE_URL=qwen.base_url)

    assert "It is sunny and 21 degrees in Paris." in said


def test_everything_the_readme_asks_of_the_provider_is_answered_on_tiny_qwen3(qwen: LiveServer, tmp_path: Path) -> None:
    script = tmp_path / "use.py"
    script.write_text(USE)

    reasoned, called, formatted, seen = run([sys.executable, str(script)], VLLM_BASE_URL=qwen.base_url).splitlines()

    assert reasoned == "['thinking', 'text'] The capital of France is Paris."
    assert called == "get_weather {'city': 'Paris'}"
    assert ast.literal_eval(formatted).keys() == {"city", "population"}
    assert "requested='image'" in seen
    assert seen.endswith("The capital of Japan is Tokyo.")


def test_the_doctor_in_the_readme_says_what_it_shows_on_tiny_qwen3(qwen: LiveServer) -> None:
    shown = next(block for block in blocks("text") if block.startswith("vllm: "))

    said = run([word.replace("http://localhost:8000", qwen.base_url) for word in shlex.split(DOCTOR)])

    assert _checks(said) == _checks(shown)
    assert said.endswith("A session would work.\n")


def test_both_servers_of_the_readme_are_examined(qwen: LiveServer, gpt_oss: LiveServer, tmp_path: Path) -> None:
    (two,) = [block for block in blocks("yaml") if block.count("instance_id") == 2]
    served = two.replace("http://gpu-1:8000", qwen.base_url).replace("http://gpu-2:8000", gpt_oss.base_url)
    (tmp_path / "bundle.yaml").write_text(served)

    plain = run(shlex.split(DOCTOR_OF_A_FILE), tmp_path, LARGE_KEY="any")
    scripted = json.loads(run(shlex.split(DOCTOR_FOR_SCRIPTS), tmp_path, LARGE_KEY="any"))

    assert f"small: {qwen.base_url}" in plain
    assert f"large: {gpt_oss.base_url}" in plain
    assert [(one["name"], one["works"]) for one in scripted["providers"]] == [("small", True), ("large", True)]


@pytest.mark.usefixtures("qwen")
def test_make_demo_prints_the_weather_in_paris_from_a_real_tool_call_on_tiny_qwen3() -> None:
    said = run(shlex.split("make demo"), VLLM_BASE_URL="")

    assert 'get_weather(city="Paris")' in said
    assert "It is sunny and 21 degrees in Paris." in said


def _checks(said: str) -> list[str]:
    """The names of the checks, in order."""
    return [line[8:23].strip() for line in said.splitlines() if line[2:6].strip() in ("ok", "note", "fail")]
