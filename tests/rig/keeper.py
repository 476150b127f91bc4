"""Keep one server running while somebody needs it, then end it with everything it started.

`python -m tests.rig.keeper LEASE DETACHED SECONDS COMMAND…` goes to the background and prints two process ids: its
own and the server's. Who needs the server holds a shared lock on LEASE, which the kernel drops even when its owner is
killed. While DETACHED exists the server is needed by nobody in particular. Asked to end, it has SECONDS to do so.

Descriptors passed to the keeper stay open in it alone, for as long as it lives. Linux only, as is the server.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.rig.locks import POLL_SECONDS, try_lock

# vLLM's resource tracker outlives it for a moment, to clear away its shared memory.
SECONDS_FOR_ORPHANS = 0.5

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Keeper:
    """One server, and every process that descends from it."""

    def __init__(self, command: list[str]) -> None:
        self._asked_to_stop = False
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, self._stop)
        libc = ctypes.CDLL(None)
        # Orphans of the server, such as its engine, become our children, so that none escapes the end.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.server = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            process_group=0,
            # Should the keeper itself be killed, the server is told to end. Safe: this process has a single thread.
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )

    def keep(self, lease: Path, detached: Path, seconds_to_end: float) -> None:
        """Return when the server has ended: by itself, by a signal to the keeper, or because nobody needs it."""
        while self._server_runs() and not self._asked_to_stop and (detached.exists() or _is_leased(lease)):
            time.sleep(POLL_SECONDS)
        if self._server_runs():
            print("keeper: nobody needs the server any more", file=sys.stderr)
            self.server.send_signal(signal.SIGTERM)
        else:
            print(f"keeper: the server has ended with status {self.server.returncode}", file=sys.stderr)
        _wait_until(time.monotonic() + seconds_to_end, lambda: not self._server_runs())
        _wait_until(time.monotonic() + SECONDS_FOR_ORPHANS, lambda: not _reap())
        while _reap():
            _kill_children()
            time.sleep(POLL_SECONDS)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def _server_runs(self) -> bool:
        return self.server.poll() is None


def _wait_until(deadline: float, condition: Callable[[], bool]) -> None:
    while not condition() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _is_leased(lease: Path) -> bool:
    """Whether somebody holds the lease; if not, it is ours from now on, and nobody can come in while we end."""
    return lease.exists() and try_lock(lease) is None


def _reap() -> bool:
    """Whether children are left, once those that have ended are cleared away."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
    except ChildProcessError:
        return False
    return True


def _kill_children() -> None:
    """Those that are ours now; killing them makes their own children ours, for the next time."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):  # ended in the meantime
            continue


def main(arguments: list[str]) -> None:
    lease, detached, seconds_to_end, *command = arguments
    if os.fork() != 0:
        os._exit(0)
    keeper = Keeper(command)
    print(os.getpid(), keeper.server.pid, flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    keeper.keep(Path(lease), Path(detached), float(seconds_to_end))


if __name__ == "__main__":
    main(sys.argv[1:])
