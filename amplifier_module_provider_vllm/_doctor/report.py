"""Show findings as they come: coloured where there is a terminal, plain where there is none, JSON for scripts."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

from .findings import Finding, Outcome

WIDTH = 22


class Report(Protocol):
    def heading(self, text: str) -> None: ...
    def found(self, finding: Finding) -> None: ...
    def end(self, findings: Sequence[Finding]) -> None: ...


class PlainReport:
    def heading(self, text: str) -> None:
        _line(f"\n{text}")

    def found(self, finding: Finding) -> None:
        _line(f"  {finding.outcome:<5} {finding.check:<{WIDTH}} {finding.said}")
        if finding.remedy is not None:
            _line(f"        {'':<{WIDTH}} -> {finding.remedy}")

    def end(self, findings: Sequence[Finding]) -> None:
        _line(f"\n{verdict(findings)}")


class JsonReport:
    def __init__(self) -> None:
        self._servers: list[tuple[str, list[dict[str, str]]]] = []

    def heading(self, text: str) -> None:
        self._servers.append((text, []))

    def found(self, finding: Finding) -> None:
        self._servers[-1][1].append(asdict(finding))

    def end(self, findings: Sequence[Finding]) -> None:
        servers = [{"server": server, "findings": found} for server, found in self._servers]
        _line(json.dumps({"works": works(findings), "servers": servers}, indent=2))


def works(findings: Sequence[Finding]) -> bool:
    return bool(findings) and all(finding.outcome is not Outcome.FAIL for finding in findings)


def verdict(findings: Sequence[Finding]) -> str:
    failed = [finding.check for finding in findings if finding.outcome is Outcome.FAIL]
    return (
        "A session would work." if works(findings) else f"A session would not work as it should: {', '.join(failed)}."
    )


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
