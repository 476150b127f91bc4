"""Findings in colour, with a spinner while a check runs; needs the extra `doctor`."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from .findings import Finding, Outcome
from .report import WIDTH, verdict, works

MARKS = {Outcome.OK: ("✓", "green"), Outcome.NOTE: ("·", "yellow"), Outcome.FAIL: ("✗", "bold red")}


class RichReport:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._status = self._console.status("asking the server …")

    def heading(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/bold]")
        self._status.start()

    def found(self, finding: Finding) -> None:
        mark, style = MARKS[finding.outcome]
        line = Text.assemble((f"  {mark} ", style), (f"{finding.check:<{WIDTH}} ", "bold"), finding.said)
        self._console.print(line)
        if finding.remedy is not None:
            self._console.print(Text.assemble(" " * (WIDTH + 5), ("→ ", style), (finding.remedy, "italic")))

    def end(self, findings: Sequence[Finding]) -> None:
        self._status.stop()
        self._console.print(Text(f"\n{verdict(findings)}", style="bold green" if works(findings) else "bold red"))
