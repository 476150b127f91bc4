"""Write the journal of a running session: one JSON line for each record, appended as it happens."""

import json
import logging
import os
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from .._strict_json import wire_text
from .journal_reader import RECENT, Record, agent_step, read_journal, read_lines
from .trajectory import Call, Source

if sys.platform != "win32":
    import fcntl

__all__ = ["JournalWriter", "read_journal"]

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1

CALL_KEYS: Final = (
    "request_id", "call_index", "model", "endpoint", "response_id", "finish_reason", "policy_version", "token_in",
    "segment", "sampling", "usage", "content", "timestamp", "token_ids", "logprobs",
)  # fmt: skip
"""What is kept of an `llm:tokens` event, besides its prompt."""

ID_WIDTH: Final = array("q").itemsize


class JournalWriter:
    """Appends to the journal of one session; opened again, it goes on behind the last complete record.

    Each record is handed to the operating system before the method returns. Raises `OSError` for a file that cannot be
    written, and `ValueError` for one whose content is invalid or of another session.
    """

    def __init__(
        self,
        path: Path,
        session_id: str,
        *,
        parent_session_id: str | None = None,
        agent_name: str = "amplifier",
        agent_version: str = "",
        tools: Iterable[Record] = (),
    ) -> None:
        self.path = path
        self.last_message: Record | None = None
        """The record of the latest message or observation."""
        self.calls = 0
        """Those in the file."""
        self._recent: deque[bytes] = deque(maxlen=RECENT)
        self._size = 0
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._lock()
            self._resume(session_id)
            if self._size == 0:
                session = {"version": FORMAT_VERSION, "session_id": session_id, "parent_session_id": parent_session_id}
                agent = {"agent_name": agent_name, "agent_version": agent_version, "tools": list(tools)}
                self._append({"kind": "session", **session, **agent})
            on_failure.pop_all()

    def write_message(self, source: Source, content: str, index: int, timestamp: str | None = None) -> None:
        """A message that stands at this place of the session's context."""
        message = {"kind": "message", "source": source, "content": content, "index": index}
        self._write_message(message if timestamp is None else message | {"timestamp": timestamp})

    def write_observation(self, call_id: str, content: str, index: int) -> None:
        """The result of a tool call, as the session's context has it at this place."""
        self._write_message({"kind": "observation", "tool_call_id": call_id, "content": content, "index": index})

    def write_call(self, event: Record) -> None:
        """The payload of an `llm:tokens` event. Raises `ValueError` that names the key that is wrong."""
        call = Call.from_event(event)
        agent_step(event, call)  # a line that cannot be read would end the journal for its readers
        prompt, sampled = _packed(call.prompt_token_ids), _packed(call.token_ids)
        shared, base = max(
            ((_shared_ids(ids, prompt), -place) for place, ids in enumerate(reversed(self._recent), 1)), default=(0, 0)
        )
        new_ids = call.prompt_token_ids[shared:]
        kept = {key: event[key] for key in CALL_KEYS if event.get(key) is not None}
        self._append({"kind": "call", **kept, "base": -base, "shared": shared, "prompt_token_ids": new_ids})
        self._recent.append(prompt + sampled)
        self.calls += 1

    def write_reward(self, value: float) -> None:
        self._append({"kind": "reward", "value": value})

    def write_end(self) -> None:
        """The session ended here; a resumed one goes on behind it."""
        self._append({"kind": "end"})

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_message(self, record: Record) -> None:
        self._append(record)
        self.last_message = record

    def _append(self, record: Record) -> None:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
        data = wire_text(text).encode() + b"\n"
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            # A part of a line would join with the next one. A full disk still lets a file be cut.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _lock(self) -> None:
        """Two writers would each leave out what the other one wrote."""
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{self.path} is already being written, by this process or another one") from None
        except OSError as error:
            logger.debug("%s cannot be locked: %s", self.path, error)  # some network file systems have no locks

    def _resume(self, session_id: str) -> None:
        for line in read_lines(self.path):
            self._size = line.end
            if line.record["kind"] == "session" and line.record.get("session_id") != session_id:
                raise ValueError(f"{self.path} is the journal of another session: {line.record.get('session_id')!r}")
            if line.record["kind"] in ("message", "observation"):
                self.last_message = line.record
            self.calls += line.record["kind"] == "call"
        os.ftruncate(self._file, self._size)


def _packed(ids: Sequence[int]) -> bytes:
    return array("q", ids).tobytes()


def _shared_ids(one: bytes, other: bytes) -> int:
    """The number of ids with which both begin."""
    low, high = 0, min(len(one), len(other)) // ID_WIDTH
    while low < high:
        middle = (low + high + 1) // 2
        part = slice(low * ID_WIDTH, middle * ID_WIDTH)
        low, high = (middle, high) if one[part] == other[part] else (low, middle - 1)
    return low
