"""The package installed into a fresh environment, and a session with it."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, USAGE, scripts
from tests.live.test_documents import run
from tests.rig.server import LiveServer

pytestmark = pytest.mark.live

INSTALL = ("pip install .", "pip install '.[doctor]'")
SOURCES = (
    "amplifier_module_provider_vllm", "amplifier_module_hooks_vllm_tokens",
    "amplifier_module_hooks_vllm_tool_validation", "tests/support/modules", "pyproject.toml", "README.md", "LICENSE",
)  # fmt: skip
SESSION = """
import asyncio
import sys

from amplifier_core import AmplifierSession

sys.path.insert(0, "tests/support/modules")  # an orchestrator and a context manager; the provider is found by its name
PLAN = {
    "session": {"orchestrator": {"module": "loop-test"}, "context": {"module": "context-test"}},
    "providers": [{"module": "provider-vllm", "config": {"temperature": 0}}],
}


async def main() -> None:
    session = AmplifierSession(config=PLAN)
    await session.initialize()
    print(await session.execute("What is the capital of France?"))
    await session.cleanup()


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that a build changes nothing here."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source, copy = ROOT / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    return folder


@pytest.fixture(scope="module")
def python(checkout: Path) -> Path:
    """The Python of a fresh environment, set up with the README's commands."""
    subprocess.run([sys.executable, "-m", "venv", str(checkout / "env")], check=True)  # noqa: S603
    python = checkout / "env" / "bin" / "python"
    for command in INSTALL:
        _, *arguments = shlex.split(command)
        run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], checkout)
    return python


def test_an_installed_provider_answers_in_a_session_on_tiny_qwen3(
    qwen: LiveServer, checkout: Path, python: Path
) -> None:
    (checkout / "session.py").write_text(SESSION)

    output = run([str(python), "session.py"], checkout, VLLM_BASE_URL=qwen.base_url)

    assert "The capital of France is Paris." in output


def test_a_script_runs_with_the_installed_package_alone_on_tiny_qwen3(
    qwen: LiveServer, checkout: Path, python: Path
) -> None:
    first, *_ = scripts(USAGE)
    folder = checkout / "elsewhere"
    folder.mkdir()
    (folder / "question.py").write_text(first.code)

    printed = run([str(python), "question.py"], folder, VLLM_BASE_URL=qwen.base_url)

    assert printed == first.output


def test_an_installed_doctor_examines_on_tiny_qwen3(qwen: LiveServer, checkout: Path, python: Path) -> None:
    output = run([str(python.with_name("amplifier-vllm")), "doctor", qwen.base_url], checkout)

    assert output.endswith("A session would work.\n")
