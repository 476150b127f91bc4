"""What was written of the sessions, and what was heard while they ran: the ids that a reader must give back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = dict[str, Any]


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
    """Raise unless both are equal, naming what differs."""
    if expected != got:
        raise RejectedError(f"{what}: {_short(got)} came back, and {_short(expected)} was written")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} … ({len(text)} characters)"
