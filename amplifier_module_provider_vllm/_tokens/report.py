"""Print sessions and their findings as plain text."""

import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from .._server_text import sanitize
from .summary import CallSummary, SessionSummary, counted

HEADINGS = ("call", "prompt", "reused", "new", "sampled", "masked", "end", "segment")
NUMBERS = 6
"""So many of the columns are numbers, which are aligned to the right."""


class Report(Protocol):
    def session(self, summary: SessionSummary) -> None: ...

    def end(self, sessions: int, findings: int, beside: Iterable[str]) -> None:
        """`beside`: findings of no single session, which `findings` counts too."""


class PlainReport:
    def session(self, summary: SessionSummary) -> None:
        _line(f"\n{sanitize(summary.title)}\n")
        rows = [HEADINGS, *map(cells, summary.calls)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        for row in rows:
            _line(f"  {_aligned(row, widths)}".rstrip())
        _line(f"\n  {summary.totals}")
        for finding in summary.findings:
            _line(f"  wrong  {sanitize(finding)}")

    def end(self, sessions: int, findings: int, beside: Iterable[str]) -> None:
        for finding in beside:
            _line(f"\nwrong  {sanitize(finding)}")
        _line(f"\n{verdict(sessions, findings)}")


def cells(summary: CallSummary) -> tuple[str, ...]:
    """The columns of one call."""
    call = summary.call
    counts = (
        summary.number,
        len(call.prompt_token_ids),
        summary.reused,
        len(summary.new),
        len(call.token_ids),
        summary.masked,
    )
    begins = "" if summary.begins is None else f"{summary.segment}: {sanitize(summary.begins)}"
    return (*(f"{count:,}" for count in counts), sanitize(call.finish_reason or "not told"), begins)


def verdict(sessions: int, findings: int) -> str:
    found = "nothing is wrong" if findings == 0 else counted(findings, "finding")
    return f"{counted(sessions, 'session')}: {found}."


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if column < NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(padded)


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
