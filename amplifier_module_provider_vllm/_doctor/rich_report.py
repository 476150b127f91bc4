"""Findings in colour, with a spinner while a check runs; needs the extra `doctor`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._server_text import sanitize
from .findings import Examination, Finding, Outcome
from .report import WIDTH, title, verdict, visible_settings, works

MARKS = {Outcome.OK: ("✓", "green"), Outcome.NOTE: ("·", "yellow"), Outcome.FAIL: ("✗", "bold red")}


class RichReport:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("asking the server …")

    def begin(self, examination: Examination) -> None:
        self._status.stop()
        self._console.print(Text(f"\n{title(examination)}\n", style="bold"))
        for key, value, source in visible_settings(examination.settings):
            self._row(Text(""), Text(key, style="dim"), Text.assemble((value, "dim"), (f"  ({source})", "dim italic")))
        if examination.settings:
            self._console.print()
        self._status.start()

    def add(self, finding: Finding) -> None:
        mark, style = MARKS[finding.outcome]
        self._row(Text(mark, style=style), Text(finding.check, style="bold"), Text(sanitize(finding.message)))
        if finding.remedy is not None:
            remedy = Text(sanitize(finding.remedy), style="italic")
            self._row(Text(""), Text("→", style=style, justify="right"), remedy)

    def end(self, examinations: Sequence[Examination], *, stopped: bool) -> None:
        self._status.stop()
        style = "bold green" if works(examinations, stopped=stopped) else "bold red"
        self._console.print(Text(f"\n{verdict(examinations, stopped=stopped)}", style=style))

    def _row(self, mark: Text, label: Text, message: Text) -> None:
        """Long texts go on below their own beginning."""
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_column(width=3, justify="right", no_wrap=True)
        row.add_column(width=WIDTH, no_wrap=True)
        row.add_column(ratio=1, overflow="fold")
        row.add_row(mark, label, message)
        self._console.print(row)
