"""The virtual environments of the readers: `python -m tests.rl.environments NAME` makes one."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements")
Version = tuple[int, int]


@dataclass(frozen=True)
class Environment:
    """Readers that can be installed together, and the lowest Python that has all of them."""

    name: str
    lowest: Version
    readers: str
    parent: Path = CHECKOUT

    @property
    def folder(self) -> Path:
        return self.parent / f".venv-rl-{self.name}"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """Written when everything is installed."""
        return self.folder / ".ready"

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.name}.txt"

    @property
    def missing(self) -> str | None:
        """Why it is not there; None if it is."""
        if self.stamp.exists():
            return None
        return (
            f"Python {_dotted(self.lowest)} is missing" if self.find_python() is None else "`make rl` has not made it"
        )

    def find_python(self) -> str | None:
        return first_python(self.lowest, _candidates())


ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment("312", (3, 12), "harbor, verifiers, Agent Lightning 1.0"),
        Environment("lightning-03", (3, 11), "Agent Lightning 0.3"),
        Environment("training", (3, 11), "datasets, TRL"),
    )
}


def first_python(lowest: Version, candidates: Iterable[str]) -> str | None:
    """The first that runs and is new enough. A shim of pyenv is on the PATH for versions that it will not run."""
    return next((candidate for candidate in candidates if (_version(candidate) or (0, 0)) >= lowest), None)


def make(environment: Environment) -> None:
    """Install what is pinned, and this package in place. Without a Python, say so: the other readers still run."""
    python = environment.find_python()
    if python is None:
        print(f"Not set up: {environment.folder.name} ({environment.readers}), because {environment.missing}.")
        return
    print(f"Setting up {environment.folder.name} (once): {environment.readers} ...")
    pip = [str(environment.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [python, "-m", "venv", str(environment.folder)],
        [*pip, "--requirement", str(environment.requirements), "--editable", str(CHECKOUT)],
    ):
        subprocess.run(command, check=True, cwd=CHECKOUT)  # noqa: S603 - our own commands
    environment.stamp.touch()


def _candidates() -> Iterator[str]:
    yield sys.executable
    yield from (f"python3.{minor}" for minor in (12, 13, 14))
    home = Path.home()
    yield from _installed(Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions")
    yield from _installed(home / ".local" / "share" / "uv" / "python")


def _installed(folder: Path) -> Iterator[str]:
    return (str(python) for python in sorted(folder.glob("*/bin/python3")))


def _version(python: str) -> Version | None:
    command = [python, "-c", "import sys, venv; print(*sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - a Python
    except (OSError, subprocess.CalledProcessError):
        return None
    major, minor = answer.stdout.split()
    return int(major), int(minor)


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    make(ENVIRONMENTS[sys.argv[1]])
