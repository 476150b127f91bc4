"""Where the live rig keeps what it builds: one folder, outside version control, that several checkouts can share."""

import os
from pathlib import Path

HOME_VARIABLE = "VLLM_TEST_HOME"
CHECKOUT = Path(__file__).resolve().parents[2]


class LiveRigError(RuntimeError):
    """The live rig cannot go on; the message says why and what to do about it."""


def home() -> Path:
    """The folder named by VLLM_TEST_HOME, or .vllm in this checkout; made if it is not there."""
    chosen = os.environ.get(HOME_VARIABLE, "")
    folder = CHECKOUT / ".vllm" if chosen == "" else Path(chosen).expanduser().resolve()
    for part in (folder, folder / "run", folder / "models"):
        part.mkdir(parents=True, exist_ok=True)
    return folder


def tail(log: Path, lines: int = 30) -> str:
    """The end of a log, for the message of the error that points at it."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def foreign_free_environment() -> dict[str, str]:
    """This process's environment, without what would steer another Python or vLLM."""
    # A user's VLLM_API_KEY, meant for a server elsewhere, would lock ours.
    return {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "PYTHON"))}
