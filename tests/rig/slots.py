"""The files through which processes find, share and give up one running server."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.rig.home import LiveRigError, home
from tests.rig.locks import POLL_SECONDS, is_owned, is_shared, lock
from tests.rig.progress import Progress

SECONDS_TO_STOP = 30.0
SECONDS_TO_STOP_QUIETLY = 2.0


@dataclass(frozen=True)
class Running:
    """A server that a keeper looks after, as written down by whoever started it."""

    model: str
    port: int
    max_model_len: int
    keeper: int
    server: int
    since: float

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@dataclass(frozen=True)
class Slot:
    """The place of one server, by name; at most one runs in it."""

    name: str

    @property
    def model(self) -> str:
        return self.name.rpartition("-")[0]

    def file(self, kind: str) -> Path:
        return home() / "run" / f"{self.name}.{kind}"

    @property
    def log(self) -> Path:
        return self.file("log")

    def is_alive(self) -> bool:
        """Whether a keeper is there: it holds this lock for as long as it lives."""
        return is_owned(self.file("alive"))

    def is_used(self) -> bool:
        """Whether a process holds a lease on the server."""
        return is_shared(self.file("lease"))

    def is_detached(self) -> bool:
        return self.file("detached").exists()

    def detach(self, detached: bool) -> None:
        """Let the server outlive everybody who uses it, or not any more."""
        if detached:
            self.file("detached").touch()
        else:
            self.file("detached").unlink(missing_ok=True)

    def take_lease(self) -> int:
        """A descriptor; while it is open the server stays. Waits for a server that is about to end to be gone."""
        with Progress(f"waiting for the last {self.name} to end") as progress:
            return lock(self.file("lease"), progress.tick, shared=True)

    def drop_lease(self, lease: int) -> None:
        """Give it back, and wait until the server is gone, unless somebody else needs it."""
        os.close(lease)
        with Progress(f"stopping {self.name}") as progress:
            while self.is_alive() and not self.is_detached() and not self.is_used():
                if progress.seconds > SECONDS_TO_STOP:
                    raise LiveRigError(f"{self.name} does not stop; see {self.log}")
                if progress.seconds > SECONDS_TO_STOP_QUIETLY:
                    progress.tick()
                time.sleep(POLL_SECONDS)

    def running(self) -> Running | None:
        """The server in this slot, or None."""
        if not self.is_alive() or not self.file("json").exists():
            return None
        return Running(**json.loads(self.file("json").read_text()))

    def remember(self, running: Running | None) -> None:
        """Write down what runs here."""
        draft, final = self.file("json.new"), self.file("json")
        if running is None:
            final.unlink(missing_ok=True)
        else:
            draft.write_text(json.dumps(asdict(running), indent=2) + "\n")
            draft.replace(final)


def all_slots() -> list[Slot]:
    """Every slot that was ever used in this home, the latest last."""
    return [Slot(log.stem) for log in sorted((home() / "run").glob("*.log"), key=lambda log: log.stat().st_mtime)]
