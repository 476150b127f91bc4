"""Show findings as they come: coloured where there is a terminal, plain where there is none, JSON for scripts."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Protocol

from .._server_text import sanitize
from .configured import DEFAULT
from .findings import Examination, Finding, Setting

WIDTH = 15
ALWAYS_VISIBLE = ("base_url", "api_key", "default_model")


class Report(Protocol):
    def begin(self, examination: Examination) -> None:
        """Show the title and the settings of an examination that begins."""

    def add(self, finding: Finding) -> None: ...

    def end(self, examinations: Sequence[Examination], *, stopped: bool) -> None:
        """Everything was checked, or the user stopped it."""


class PlainReport:
    def begin(self, examination: Examination) -> None:
        _line(f"\n{title(examination)}\n")
        for label, value, source in visible_settings(examination.settings):
            _line(f"        {label:<{WIDTH}} {value}  ({source})")
        if examination.settings:
            _line("")

    def add(self, finding: Finding) -> None:
        _line(f"  {finding.outcome:<5} {finding.check:<{WIDTH}} {sanitize(finding.message)}")
        if finding.remedy is not None:
            _line(f"        {'':<{WIDTH}} -> {sanitize(finding.remedy)}")

    def end(self, examinations: Sequence[Examination], *, stopped: bool) -> None:
        _line(f"\n{verdict(examinations, stopped=stopped)}")


class JsonReport:
    """One JSON object at the end, even if every check fails."""

    def begin(self, examination: Examination) -> None: ...

    def add(self, finding: Finding) -> None: ...

    def end(self, examinations: Sequence[Examination], *, stopped: bool) -> None:
        providers = [{"works": works([one], stopped=stopped), **asdict(one)} for one in examinations]
        whole = {"works": works(examinations, stopped=stopped), "stopped": stopped, "providers": providers}
        _line(json.dumps(whole, indent=2, default=str))


def works(examinations: Sequence[Examination], *, stopped: bool) -> bool:
    return bool(examinations) and not stopped and not any(one.failed_checks for one in examinations)


def verdict(examinations: Sequence[Examination], *, stopped: bool) -> str:
    if stopped:
        return "Stopped before everything was checked."
    if works(examinations, stopped=False):
        return "A session would work."
    several = len(examinations) > 1
    lists = [(one.name, ", ".join(one.failed_checks)) for one in examinations if one.failed_checks]
    what = "; ".join(f"{name}: {checks}" if several else checks for name, checks in lists)
    return sanitize(f"A session would not work correctly. To fix: {what}.")


def title(examination: Examination) -> str:
    return sanitize(examination.name if examination.url is None else f"{examination.name}: {examination.url}")


def visible_settings(settings: Sequence[Setting]) -> Iterator[tuple[str, str, str]]:
    """Key, value and source of each setting that is not a default, and of those that are always shown."""
    for setting in settings:
        if setting.source != DEFAULT or setting.key in ALWAYS_VISIBLE:
            value = "unset" if setting.value is None else sanitize(str(setting.value))
            yield setting.key, value, sanitize(setting.source)


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
