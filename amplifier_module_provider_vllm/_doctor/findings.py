"""What the doctor found: one finding a check, each with what to do about it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the config as it is in effect, fit to be shown."""

    key: str
    value: Any
    source: str


@dataclass(slots=True)
class Examination:
    """All that is known of one vLLM provider so far."""

    name: str
    url: str | None = None
    settings: list[Setting] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        return [finding.check for finding in self.findings if finding.outcome is Outcome.FAIL]


def ok(check: str, said: str) -> Finding:
    return Finding(check, Outcome.OK, said)


def note(check: str, said: str, remedy: str | None = None) -> Finding:
    return Finding(check, Outcome.NOTE, said, remedy)


def fail(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, Outcome.FAIL, said, remedy)
