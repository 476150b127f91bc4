"""What the doctor found: one finding a check, each with what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing; a session works all the same."""
    FAIL = "fail"
    """A session would not work, or would be far from what the model can do."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    outcome: Outcome
    said: str
    remedy: str | None = None
    """The server flag, the config key or the step that changes it."""


def ok(check: str, said: str) -> Finding:
    return Finding(check, Outcome.OK, said)


def note(check: str, said: str, remedy: str | None = None) -> Finding:
    return Finding(check, Outcome.NOTE, said, remedy)


def fail(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, Outcome.FAIL, said, remedy)
