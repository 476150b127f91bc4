"""Recover calls from the text of a reply, if the server was started without its model's parser.

A text that quotes a call must never become one. So only the model's own format counts, outside code and reasoning, at
the start of a line, and up to the end of the reply.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from .._family import CallFormat, Family
from .._turn import FunctionCall, Item, Text, Turn
from .._visible_text import VisibleText
from .code_fences import FENCE, next_fence
from .formats import OPENERS, WrittenCall, is_begun, read_calls

TOOL_FLAGS = "start the server with --enable-auto-tool-choice and the --tool-call-parser of its model"
NO_FLAGS = "the model's output violates its own format, and no server flag fixes that"


@dataclass(frozen=True, slots=True)
class Recovery:
    turn: Turn
    warning: str | None = None
    """A problem of the server, to be logged once."""


def recover_calls(turn: Turn, tool_names: Sequence[str], family: Family) -> Recovery:
    """The turn with the calls at the end of its last text converted to calls, if each names one of the tools.

    A truncated reply, one with calls, and one to a request without tools stay as they are.
    """
    last = turn.items[-1] if turn.items else None
    calls_tools = turn.calls or turn.hosted_calls
    if not tool_names or turn.truncated or calls_tools or not isinstance(last, Text) or last.refusal:
        return Recovery(turn)
    raw = last.text if last.raw is None else last.raw
    starts = _starts(raw, family.call_formats)
    if not starts:
        return Recovery(turn)
    advice = TOOL_FLAGS if family.needs_tool_parser else NO_FLAGS
    start, calls = _last_calls(raw, starts, family)
    if not calls or any(call.name not in tool_names for call in calls):
        return Recovery(turn, f"the reply contains tool markup that is not a valid call; {advice}")
    before = raw[:start] if last.raw is None else VisibleText().of(raw[:start])
    items = (*turn.items[:-1], *_split(before, calls, turn))
    return Recovery(replace(turn, items=items), f"tool calls were recovered from the reply's text; {advice}")


def ends_in_call(last: Text, family: Family) -> bool:
    """Whether a truncated text ends in a call or in the start of one."""
    starts = _starts(last.text, family.call_formats)
    if not starts:
        return False
    return bool(_last_calls(last.text, starts, family)[1]) or is_begun(last.text[starts[-1] :], family.call_formats)


def holds_markup(text: str, family: Family) -> bool:
    """Whether a text holds the start of a call, or is the start of its markup."""
    openers = (opener for each in family.call_formats for opener in OPENERS[each])
    return bool(_starts(text, family.call_formats)) or any(opener.startswith(text.strip()) for opener in openers)


def _split(before: str, calls: Sequence[WrittenCall], turn: Turn) -> Iterator[Item]:
    """The text before the calls, unless it is blank, then the calls."""
    if before.strip():
        yield Text(before.rstrip())
    place = len(turn.items) - 1
    for n, call in enumerate(calls):
        yield FunctionCall(f"call_{turn.response_id or 'text'}_{place}_{n}", call.name, call.arguments)


def _last_calls(text: str, starts: Sequence[int], family: Family) -> tuple[int, list[WrittenCall]]:
    """The calls up to the end of the text, and where the first of them starts."""
    end, found = len(text), list[list[WrittenCall]]()
    for start in reversed(starts):
        try:
            found.append(read_calls(text[start:end], family.call_formats))
        except ValueError:
            break
        end = start
    return end, [call for calls in reversed(found) for call in calls]


def _starts(text: str, formats: tuple[CallFormat, ...]) -> list[int]:
    """Where calls may start: at the start of a line that is neither code nor reasoning."""
    opener = _opener(formats)
    starts = [] if opener.search(text) is None else list(_opening_lines(text, opener))
    # Qwen Coder writes `<tool_call>` and `<function=…>` on a line each.
    return [at for before, at in zip([0, *starts], starts, strict=False) if text[before:at].strip() != "<tool_call>"]


def _opening_lines(text: str, opener: re.Pattern[str]) -> Iterator[int]:
    fence, thinking, at = "", False, 0
    for line in text.split("\n"):
        if mark := FENCE.match(line):
            fence = next_fence(fence, mark)
        elif not fence and not thinking:
            yield from (at + match.start(1) for match in opener.finditer(line))
        if "think>" in line:
            thinking = line.rfind("<think>") > line.rfind("</think>")
        at += len(line) + 1


@cache
def _opener(formats: tuple[CallFormat, ...]) -> re.Pattern[str]:
    """The start of a call, at the start of a line; Harmony's messages follow each other without a line end."""
    tokens = "|".join(sorted({re.escape(token) for each in formats for token in OPENERS[each]}))
    return re.compile(rf"(?:^ {{0,3}}|<\|end\|>)({tokens})", re.MULTILINE)
