"""Progress of the rig: a self-updating line on a terminal, an occasional line elsewhere."""

import shutil
import sys
import time
from types import TracebackType
from typing import Self, TextIO

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_TICKS = 0.5


class Progress:
    """One activity that takes a while; silent until its first tick, so that what is quick says nothing."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        self.what = what
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._said: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._said is not None:
            self.line(f"{self.what}: {'done in' if kind is None else 'stopped after'} {self.seconds:.1f} s")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def tick(self) -> None:
        """Show the elapsed time, at a readable rate."""
        due = SECONDS_BETWEEN_TICKS if self._terminal else SECONDS_BETWEEN_LINES
        if self._said is not None and self.seconds - self._said < due:
            return
        self._said = self.seconds
        so_far = f" … {self.seconds:.0f} s"
        if self._terminal:
            # A line that wraps could not be overwritten.
            room = max(0, shutil.get_terminal_size().columns - 1 - len(so_far))
            self._write(f"\r\033[K{self.what[:room]}{so_far}")
        else:
            self._write(f"{self.what}{so_far}\n")

    def line(self, text: str) -> None:
        """A line of its own, which stays."""
        self._write(("\r\033[K" if self._terminal else "") + text + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
