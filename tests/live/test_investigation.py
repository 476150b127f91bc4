"""The investigation scripts run and print their findings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.server import LiveServer

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ai_working" / "vllm-investigation"

SHOWN = {
    "test_provider_simple.py": "The capital of France is Paris.",
    "04_test_tool_calling.py": "It is sunny and 21 degrees in Paris.",
    "06_test_responses_correct_format.py": "400  message with id null",
    "stream_timing.py": "response.function_call_arguments.done",
    "prefix_cache.py": "reminders at their original positions:",
    "error_bodies.py": "no such model: 404",
}


def run(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(FOLDER / script), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("script", SHOWN)
def test_a_script_prints_its_findings(server: LiveServer, script: str) -> None:
    assert SHOWN[script] in run(script, server.base_url)


def test_the_server_is_found_in_the_environment_too(server: LiveServer) -> None:
    output = run("test_provider_simple.py", VLLM_BASE_URL=server.base_url, VLLM_MODEL=server.model)

    assert "The capital of France is Paris." in output


def test_every_script_is_documented_and_run() -> None:
    scripts = {path.name for path in FOLDER.glob("*.py")} - {"raw.py"}

    assert scripts == SHOWN.keys()
    assert [name for name in scripts if f"`{name}`" not in (FOLDER / "README.md").read_text()] == []
