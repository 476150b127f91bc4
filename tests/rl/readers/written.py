"""What was written of the sessions, and what was heard while they ran: the ids that a reader must give back."""

import json
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

Line = dict[str, Any]

# Characters of a difference: whole trajectories are long.
BEFORE = 40
SHOWN = 160


class RejectedError(Exception):
    """A reader did not give back what we wrote."""


@dataclass(frozen=True)
class Written:
    """The folder that `tests.rl.sessions` fills, and that of the model that sampled."""

    folder: Path
    model: Path

    def lines(self, name: str) -> list[Line]:
        """The objects of one of its JSON Lines files."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def object(self, name: str) -> Line:
        """The object of one of its JSON files."""
        read: Line = json.loads((self.folder / name).read_text())
        return read

    def heard(self) -> dict[str, list[Line]]:
        """The payloads of `llm:tokens`, by session: noted by a listener of its own, without any of the writers."""
        return {line["session_id"]: line["calls"] for line in self.lines("heard.jsonl")}

    def sampled(self) -> dict[str, list[int]]:
        """The ids that the model sampled, by session."""
        return {
            session: [one for call in calls for one in call["token_ids"]] for session, calls in self.heard().items()
        }


def require(expected: object, got: object, what: str) -> None:
    """Raise unless both are equal, with the place where they differ."""
    if expected != got:
        written, read = repr(expected), repr(got)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(written, read, strict=False))
        start = max(0, sum(1 for _ in same) - BEFORE)
        written, read = (f"{text[start : start + SHOWN]!r}" for text in (written, read))
        raise RejectedError(f"{what}: {read} came back instead of {written}, from character {start}")
