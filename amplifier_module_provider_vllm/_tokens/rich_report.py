"""Print sessions and their findings in colour; needs the extra `doctor`."""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._server_text import sanitize
from .report import HEADINGS, NUMBERS, cells, verdict
from .summary import SessionSummary

STYLES = {"sampled": "green", "masked": "dim", "reused": "dim", "segment": "yellow"}


class RichReport:
    def __init__(self, console: Console) -> None:
        self._console = console

    def session(self, summary: SessionSummary) -> None:
        self._console.print(Text(f"\n{sanitize(summary.title)}\n", style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="right" if column < NUMBERS else "left", style=STYLES.get(heading, ""))
        for call in summary.calls:
            table.add_row(*map(Text, cells(call)))
        self._console.print(table)
        self._console.print(Text(f"  {summary.totals}"))
        for finding in summary.findings:
            self._finding(finding)

    def end(self, sessions: int, findings: int, beside: Iterable[str]) -> None:
        for finding in beside:
            self._finding(finding)
        self._console.print(Text(f"\n{verdict(sessions, findings)}", style="bold red" if findings else "bold green"))

    def _finding(self, finding: str) -> None:
        self._console.print(Text.assemble(("  ✗ ", "bold red"), sanitize(finding)))
