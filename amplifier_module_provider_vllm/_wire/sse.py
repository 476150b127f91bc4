"""Frame server-sent events from arbitrary reads of a socket (WHATWG HTML, 9.2.6)."""

import re
from itertools import starmap
from typing import Final

import msgspec

from .._sizes import MAX_EVENT, check_size

BOM: Final = b"\xef\xbb\xbf"

DATA: Final = b"data: "

NEXT_DATA: Final = b"\n\n" + DATA

PLAIN: Final = re.compile(rb"(?:\A|\n\n)(?:event: (?!message\n)([^\n]*)\n)?data: ([^\n]+)(?=\n\n|\Z)")
"""The form of every event of vLLM: one event line, except in chat and text completions, and one data line."""

UNNAMED: Final = b"message"
"""The name that an event without one has, and that a server may write out."""

PARTIAL_LENGTH: Final = 512
"""Bytes of an incomplete event that are parsed: enough for its name, or for the type in its data."""

MAX_PING_BYTES: Final = 256
"""What a gateway sends to keep a connection open is shorter."""

DONE: Final = b"[DONE]"
"""The data that ends a stream of chat and text completions; some gateways send it on every endpoint."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One raw event: its name (empty if it has none) and its data."""

    event: bytes
    data: bytes


class SSEFramer:
    """Convert the reads of one response to frames; a read may end anywhere, even inside a character."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at_start = True
        self._pending_cr = False

    @property
    def partial(self) -> Frame:
        """The start of the incomplete event at the end of the last read; empty between events."""
        return _frame(bytes(self._buffer[:PARTIAL_LENGTH]))

    def feed(self, read: bytes) -> list[Frame]:
        """The frames that this read completes."""
        old_length = len(self._buffer)
        self._buffer += self._normalized(read)
        if self._at_start and not self._past_the_bom():
            return []
        end = self._buffer.rfind(b"\n\n", max(0, old_length - 1))
        check_size(len(self._buffer) - end, MAX_EVENT, "an event")
        if end < 0:
            return []
        complete = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return _frames(complete)

    def end(self) -> list[Frame]:
        """The rest at the end of the body: at most one event, without its blank line."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return _frames(rest)

    def _normalized(self, read: bytes) -> bytes:
        if self._pending_cr:
            read, self._pending_cr = b"\r" + read, False
        if b"\r" not in read:
            return read
        if read.endswith(b"\r"):  # its \n may come with the next read
            read, self._pending_cr = read[:-1], True
        return read.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _past_the_bom(self) -> bool:
        if len(self._buffer) < len(BOM) and BOM.startswith(bytes(self._buffer)):
            return False
        self._buffer = self._buffer.removeprefix(BOM)
        self._at_start = False
        return True


def _frames(complete: bytes) -> list[Frame]:
    if complete.startswith(DATA):
        data = complete[len(DATA) :].split(NEXT_DATA)
        if complete.count(b"\n") == 2 * (len(data) - 1) and all(data):  # every event is one data line, as in chat
            return [Frame(b"", one) for one in data]
    plain = PLAIN.findall(complete)
    if len(plain) == complete.count(b"\n\n") + 1:  # every event has the plain form
        return list(starmap(Frame, plain))
    return [frame for block in complete.split(b"\n\n") if (frame := _frame(block)).data]


def _frame(block: bytes) -> Frame:
    name = b""
    lines: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return Frame(b"" if name == UNNAMED else name, b"\n".join(lines))
