"""Run a long command with its output in a log and its progress on the terminal."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.rig.home import CHECKOUT, foreign_free_environment
from tests.rig.locks import POLL_SECONDS
from tests.rig.progress import Progress


def run_logged(command: Sequence[str], log: Path, progress: Progress, *, holding: int) -> int:
    """The exit status; the command inherits the lock `holding`, which thus lasts if the command outlives us."""
    with log.open("a") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=foreign_free_environment(),
            pass_fds=(holding,),
        )
        try:
            return _wait(process, progress)
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], progress: Progress) -> int:
    while True:
        progress.tick()
        try:
            return process.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
