"""The command `amplifier-vllm tokens FILE`: summarise and check trajectories, and draw them as a page."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._command import CommandError
from ..rl.files import read_trajectories
from .page import page
from .report import PlainReport, Report
from .summary import SessionSummary, repeated_sessions, summarize


def add_command(commands: Any) -> None:
    """Add the command to the parsers of all commands."""
    tokens = commands.add_parser(
        "tokens",
        help="summarise and check the tokens of recorded sessions",
        description="Say for each model call of a trajectory file which tokens it reused, got and sampled, where a"
        " segment begins and why, and check that the file can be trained on.",
        epilog="Exit status: 0 if nothing is wrong, 1 if something is, 2 if the file cannot be read.",
    )
    tokens.add_argument("file", type=Path, metavar="FILE", help="ATIF, rows or journals, or a folder of them")
    tokens.add_argument("--html", type=Path, metavar="OUT", help="also write a page that shows every token")
    tokens.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 if nothing is wrong, 1 if something is. Raises `CommandError` for a file that cannot be read or written."""
    report, sessions = _report(), list[SessionSummary]()
    for summary in _read(options.file):
        report.session(summary)
        sessions.append(summary)
    if not sessions:
        raise CommandError(f"{options.file} has no trajectories")
    beside = list(repeated_sessions(sessions))
    findings = len(beside) + sum(len(each.findings) for each in sessions)
    report.end(len(sessions), findings, beside)
    if options.html is not None:
        _write(options.html, page(options.file.name, sessions))
    return 1 if findings else 0


def _read(path: Path) -> Iterator[SessionSummary]:
    try:
        yield from map(summarize, read_trajectories(path))
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise CommandError(f"cannot read {path}: {error}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error}") from error


def _report() -> Report:
    if not sys.stdout.isatty():
        return PlainReport()
    try:
        from rich.console import Console  # an extra

        from .rich_report import RichReport
    except ModuleNotFoundError:
        return PlainReport()
    return RichReport(Console(highlight=False))
