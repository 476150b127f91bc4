"""Recover calls from the text of a reply, if the server was started without its model's parser."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ._family import GPT_OSS
from ._strict_json import read_json
from ._turn import FunctionCall, Item, Text, Turn

MARKUP = re.compile(r"<tool_call>|<function=|\[TOOL_CALLS\]|<\|channel\|>|<\|start\|>|<\|tool_call_begin\|>")
"""Markup that no answer contains (Hermes and Qwen, Llama and Qwen Coder, Mistral, Harmony, Kimi)."""

HERMES_CALL = re.compile(r"<tool_call>\s*(?P<json>\{.*?\})\s*</tool_call>", re.DOTALL)
MISTRAL_CALLS = re.compile(r"\[TOOL_CALLS\]\s*(?P<json>\[.*\])", re.DOTALL)
TAGGED_CALL = re.compile(
    r"(?:<tool_call>\s*)?<function=(?P<name>[\w.-]+)>(?P<body>.*?)</function>(?:\s*</tool_call>)?", re.DOTALL
)
PARAMETER = re.compile(r"<parameter=([\w.-]+)>\s*(.*?)\s*</parameter>", re.DOTALL)
HARMONY_CALL = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>commentary to=functions\.(?P<name>[\w.-]+)"
    r".*?<\|message\|>(?P<arguments>\{.*?\})(?:<\|call\|>|$)",
    re.DOTALL,
)

TOOL_FLAGS = "start the server with --enable-auto-tool-choice and the --tool-call-parser of its model"
NO_FLAGS = "the model's output violates its own format, and no server flag fixes that"


@dataclass(frozen=True, slots=True)
class Recovery:
    turn: Turn
    warning: str | None = None
    """A problem of the server, to be logged once."""


def has_tool_markup(item: Item) -> bool:
    return isinstance(item, Text) and MARKUP.search(item.text) is not None


def recover_calls(turn: Turn, tool_names: Sequence[str]) -> Recovery:
    """The turn with the calls in its texts converted to calls, if each is valid and names one of the tools.

    A truncated reply, and one to a request without tools, stays as it is.
    """
    if not tool_names or turn.truncated or not any(has_tool_markup(item) for item in turn.items):
        return Recovery(turn)
    items = tuple(part for n, item in enumerate(turn.items) for part in _split_calls(item, n, turn, tool_names))
    call_count = sum(isinstance(item, FunctionCall) for item in items) - len(turn.calls)
    texts = "".join(item.text for item in turn.items if isinstance(item, Text))
    advice = NO_FLAGS if any(mark in texts for mark in GPT_OSS.markup) else TOOL_FLAGS
    if not call_count:
        return Recovery(turn, f"the reply contains tool markup that is not a valid call; {advice}")
    return Recovery(replace(turn, items=items), f"tool calls were recovered from the reply's text; {advice}")


def _split_calls(item: Item, place: int, turn: Turn, tool_names: Sequence[str]) -> Iterator[Item]:
    """The rest of a text without its calls, unless it is blank, then the calls."""
    if not isinstance(item, Text) or not has_tool_markup(item):
        yield item
        return
    calls = list(_calls(item.text))
    if not calls or any(name not in tool_names for _, name, _ in calls):
        yield item
        return
    rest = item.text
    for span, _, _ in calls:
        rest = rest.replace(span, "", 1)
    if rest.strip():
        yield Text(rest.rstrip())
    for n, (_, name, arguments) in enumerate(calls):
        yield FunctionCall(f"call_{turn.response_id or 'text'}_{place}_{n}", name, arguments)


def _calls(text: str) -> Iterator[tuple[str, str, str]]:
    """Every call in the text: its markup, the tool's name, and the arguments as JSON."""
    for span, body in _spans(text):
        try:
            decoded = read_json(body)
        except ValueError:
            continue
        for call in decoded if isinstance(decoded, list) else [decoded]:
            match call:
                case {"name": str(name), "arguments": dict(arguments)} | {
                    "name": str(name),
                    "parameters": dict(arguments),
                }:
                    yield span, name, json.dumps(arguments, ensure_ascii=False)
                case _:
                    pass
    yield from _tagged_calls(text)
    for match in HARMONY_CALL.finditer(text):
        yield match.group(0), match.group("name"), match.group("arguments")


def _spans(text: str) -> Iterator[tuple[str, str]]:
    for pattern in (HERMES_CALL, MISTRAL_CALLS):
        for match in pattern.finditer(text):
            yield match.group(0), match.group("json")


def _tagged_calls(text: str) -> Iterator[tuple[str, str, str]]:
    """`<function=name>` with a JSON body (Llama) or with one `<parameter=…>` for each argument (Qwen Coder)."""
    for match in TAGGED_CALL.finditer(text):
        body = match.group("body").strip()
        arguments = body if body.startswith("{") else json.dumps(dict(PARAMETER.findall(body)), ensure_ascii=False)
        yield match.group(0), match.group("name"), arguments
