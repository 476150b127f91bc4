"""Draw sessions as one self-contained HTML page: every token, coloured by mask and log probability."""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from .summary import CallSummary, SessionSummary

DATA: Final = "/*DATA*/"
DIGITS: Final = 4
"""Of a log probability: more cannot be seen, and would double the page."""


def page(name: str, sessions: Sequence[SessionSummary]) -> str:
    """The page of a file of this name. It loads nothing, and draws a row when it comes into view."""
    data = {"name": name, "sessions": [_session(each) for each in sessions]}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Within a script, HTML ends at the first `</script`, and JSON may spell `<` so.
    escaped = text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode()
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return template.replace(DATA, escaped)


def _session(summary: SessionSummary) -> dict[str, Any]:
    return {
        "title": summary.title,
        "totals": summary.totals,
        "findings": list(summary.findings),
        "calls": [_call(each) for each in summary.calls],
    }


def _call(summary: CallSummary) -> dict[str, Any]:
    call, step = summary.call, summary.step
    logprobs = None if call.logprobs is None else [round(each, DIGITS) for each in call.logprobs]
    calls = [f"{each.name}({json.dumps(dict(each.arguments), ensure_ascii=False)})" for each in step.tool_calls]
    return {
        "number": summary.number,
        "segment": summary.segment,
        "begins": summary.begins,
        "end": call.finish_reason,
        "reused": summary.reused,
        "new": list(summary.new),
        "sampled": list(call.token_ids),
        "logprobs": logprobs,
        "texts": [text for text in (step.reasoning, step.message, *calls) if text],
    }
