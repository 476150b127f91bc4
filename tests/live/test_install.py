"""A newcomer's first minutes: the package installed where nothing of it was before, and a session through it."""

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
SOURCES = ("amplifier_module_provider_vllm", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package is built of, so that building it leaves nothing behind here."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source, copy = ROOT / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    return folder


@pytest.fixture(scope="module")
def python(checkout: Path) -> Path:
    """The Python of a fresh environment in which the README's commands were run."""
    subprocess.run([sys.executable, "-m", "venv", str(checkout / "env")], check=True)  # noqa: S603
    python = checkout / "env" / "bin" / "python"
    for command in INSTALL:
        _, *arguments = shlex.split(command)
        run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], checkout)
    return python


def test_the_scripts_run_with_the_installed_package_alone_on_tiny_qwen3(
    qwen: LiveServer, checkout: Path, python: Path
) -> None:
    first, *_ = scripts(USAGE)
    folder = checkout / "elsewhere"
    folder.mkdir()
    (folder / "question.py").write_text(first.code)

    printed = run([str(python), "question.py"], folder, VLLM_BASE_URL=qwen.base_url)

    assert printed == first.output


def test_an_installed_doctor_examines_on_tiny_qwen3(qwen: LiveServer, checkout: Path, python: Path) -> None:
    said = run([str(python.with_name("amplifier-vllm")), "doctor", qwen.base_url], checkout)

    assert said.endswith("A session would work.\n")
