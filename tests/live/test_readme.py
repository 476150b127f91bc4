"""What the README promises, done as its reader would do it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.server import LiveServer

pytestmark = pytest.mark.live

ROOT = Path(__file__).parent.parent.parent


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_session_in_the_readme_answers_on_tiny_qwen3(qwen: LiveServer, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "session.py"
    script.write_text(snippet)

    said = run([sys.executable, str(script)], VLLM_BASE_URL=qwen.base_url)

    assert "It is sunny and 21 degrees in Paris." in said


@pytest.mark.usefixtures("qwen")
def test_make_demo_prints_the_weather_in_paris_from_a_real_tool_call_on_tiny_qwen3() -> None:
    said = run(["make", "demo"], VLLM_BASE_URL="")

    assert 'get_weather(city="Paris")' in said
    assert "It is sunny and 21 degrees in Paris." in said
