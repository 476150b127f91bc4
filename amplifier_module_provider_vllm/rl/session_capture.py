"""Write one session to its files: the journal with every call, the file for trainers at the end of each turn."""

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

from .atif import to_atif
from .journal import JournalWriter
from .journal_reader import read_journal
from .rows import to_rows
from .transcript import Message, write_new_messages

logger = logging.getLogger(__name__)

Format: TypeAlias = Literal["atif", "rows"]

LARGE: Final = 1024 * 1024
GROWTH: Final = 1.1
"""The file of a journal larger than `LARGE` bytes is written again once that has grown by this factor, and at the end:
the work stays in proportion to the session."""


@dataclass(slots=True)
class SessionCapture:
    """The files of one session. A failure ends the capture with one warning, and never the session."""

    folder: Path
    format: Format
    coordinator: Any
    _journal: JournalWriter | None = None
    _failed: bool = False
    _exported: int = 0
    """The size of the journal when the file was written."""
    _unwritten: bool = False
    """Whether it has been said that the file cannot be written."""

    async def record_call(self, event: Mapping[str, Any]) -> None:
        """Write what the model was told since the last call, and the call."""
        messages = await self._messages()
        self._write(lambda journal: write_new_messages(journal, messages))
        self._write(lambda journal: journal.write_call(event))

    async def end_turn(self) -> None:
        """Write what came after the last call, and the file if there is something new for it."""
        if self._journal is None:
            return
        messages = await self._messages()
        self._write(lambda journal: write_new_messages(journal, messages))
        size = self._journal.size
        if size != self._exported and (size <= LARGE or size >= GROWTH * self._exported):
            await self._export(self._journal)

    async def close(self) -> None:
        """End the journal and write the file. A second call does nothing."""
        journal = self._journal
        if journal is None:
            return
        messages = await self._messages()
        self._write(lambda journal: write_new_messages(journal, messages))
        self._write(JournalWriter.write_end)
        self._journal, self._failed = None, True
        journal.close()
        await self._export(journal)

    async def _messages(self) -> Sequence[Message]:
        context = self.coordinator.get("context")
        messages: Sequence[Message] = [] if context is None else await context.get_messages()
        return messages

    def _write(self, write: Callable[[JournalWriter], None]) -> None:
        """Nothing is written after a failure: a session without one of its calls would be another session."""
        if self._failed:
            return
        try:
            if self._journal is None:
                self._journal = self._open()
            write(self._journal)
        except (OSError, ValueError) as error:
            self._failed = True
            so_far = "Nothing of it is recorded" if self._journal is None else f"The calls before are in {self._path()}"
            self._warn(f"the tokens of this session are no longer recorded: {error}. {so_far}.")

    def _open(self) -> JournalWriter:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return JournalWriter(
            self._path(),
            self.coordinator.session_id,
            parent_session_id=self.coordinator.parent_id,
            agent_version=version("amplifier-core"),
            tools=[_definition(name, tool) for name, tool in (self.coordinator.get("tools") or {}).items()],
        )

    async def _export(self, journal: JournalWriter) -> None:
        size, path = journal.size, self._path(".jsonl")
        try:
            # In a thread: every call's whole prompt is in the file, and other sessions run on this loop.
            await asyncio.to_thread(_export, journal.path, path, self.format)
            self._exported = size
        except (OSError, ValueError) as error:
            if not self._unwritten:
                self._unwritten = True
                self._warn(f"{path} cannot be written: {error}. What it would contain is in {journal.path}.")

    def _path(self, suffix: str = ".journal") -> Path:
        return self.folder / f"{quote(self.coordinator.session_id, safe='')}{suffix}"

    def _warn(self, sentence: str) -> None:
        logger.warning("[TOKENS] vLLM: %s", sentence)
        display = self.coordinator.display_system
        if display is not None:  # Amplifier's app hides the log
            display.show_message(sentence, "warning", "hooks-vllm-tokens")


def _export(journal: Path, path: Path, kind: Format) -> None:
    """Replace the file in one step, so that it is whole at any time."""
    trajectory = read_journal(journal)
    if not trajectory.calls:
        return
    lines: Iterator[Mapping[str, Any]] = iter([to_atif(trajectory)] if kind == "atif" else to_rows(trajectory))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _definition(name: str, tool: object) -> dict[str, Any]:
    match tool:
        case object(description=str(description), input_schema=Mapping() as parameters):
            function = {"name": name, "description": description, "parameters": parameters}
        case _:
            function = {"name": name}
    return {"type": "function", "function": function}
