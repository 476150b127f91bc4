"""Servers for one test after another: started for the first that needs them, stopped after the last."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from tests.rig.home import LiveRigError
from tests.rig.launch import Launch
from tests.rig.room import check_limit, needed_bytes, read_memory
from tests.rig.server import LiveServer, serve_launches

Serve = Callable[[Sequence[Launch]], AbstractContextManager[list[LiveServer]]]


def turn(launches: Collection[Launch], order: Sequence[Launch]) -> tuple[int, int]:
    """A sort key for tests. If a test needs at most two servers, neighbours in `order`, never more than two are up."""
    places = [order.index(launch) for launch in launches]
    return max(places, default=-1), min(places, default=-1)


class Pool:
    """The servers that are up, by their settings."""

    def __init__(self, serve: Serve = serve_launches) -> None:
        self._serve = serve
        self._up: dict[Launch, LiveServer] = {}
        self._stops: dict[Launch, ExitStack] = {}
        self._failures: dict[frozenset[Launch], LiveRigError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.keep(())

    def __contains__(self, launch: Launch) -> bool:
        return launch in self._up

    def __getitem__(self, launch: Launch) -> LiveServer:
        return self._up[launch]

    def ensure(self, launches: Collection[Launch]) -> None:
        """Start these. If memory is short, stop others first, even if a later test must start them again."""
        # A server that failed to start is not tried again.
        if (failure := self._failures.get(frozenset(launches))) is not None:
            raise failure
        try:
            check_limit([launch.model for launch in launches])
            self._start_missing(launches)
        except LiveRigError as error:
            self._failures[frozenset(launches)] = error
            raise

    def keep(self, launches: Collection[Launch]) -> None:
        """Stop all others."""
        for launch in [launch for launch in self._up if launch not in launches]:
            self._stop(launch)

    def _start_missing(self, launches: Collection[Launch]) -> None:
        missing = [launch for launch in launches if launch not in self._up]
        need = needed_bytes([launch.model for launch in missing])
        for idle in [launch for launch in self._up if launch not in launches]:
            if need == 0 or read_memory().room >= need:
                break
            self._stop(idle)
        for launch in missing:
            with ExitStack() as stop:
                (self._up[launch],) = stop.enter_context(self._serve([launch]))
                self._stops[launch] = stop.pop_all()

    def _stop(self, launch: Launch) -> None:
        del self._up[launch]
        self._stops.pop(launch).close()
