"""How the markup of a call begins in each format, up to its arguments, and how it ends."""

import re
from typing import Final, Literal, NamedTuple

from .._family import CallFormat


class Header(NamedTuple):
    format: CallFormat
    pattern: re.Pattern[str]
    """Matches the header and every start of it; its group `all` is matched by all of it."""
    body: Literal["arguments", "json", "parameters"]
    """What follows: the arguments, a JSON value with name and arguments, or `<parameter=…>` tags."""
    depth: int
    """The JSON levels that are open after the header."""
    tail: tuple[str, ...]
    """The tokens that end the call. Models leave some of them out."""


_SPACE: Final = r"(\s{0,20})"
_NAME: Final = r"(?P<name>[\w.-]{1,128})"
_KIMI: Final = ("<|tool_call_begin|>", _SPACE, "functions.", _NAME, ":", r"(\d{1,9})", _SPACE)


def prefix_pattern(*parts: str) -> re.Pattern[str]:
    """Matches the parts in a row and every start of them. A part in parentheses is a pattern, any other is literal."""
    pattern = "(?P<all>)"
    for part in reversed(parts):
        for unit in [part] if part.startswith("(") else map(re.escape, reversed(part)):
            pattern = rf"(?:\Z|{unit}{pattern})"
    return re.compile(pattern)


def _hermes_parts() -> tuple[str, ...]:
    name = r'(?P<name>[^"\\\x00-\x1f]{1,128})'
    key = r"([a-z]{1,9}\Z|arguments|parameters)"
    named = ("<tool_call>", _SPACE, "{", _SPACE, '"name"', _SPACE, ":", _SPACE, '"', name, '"')
    return (*named, _SPACE, ",", _SPACE, '"', key, '"', _SPACE, ":", _SPACE, "{")


HEADERS: Final = (
    Header("hermes", prefix_pattern(*_hermes_parts()), "arguments", 2, ("}", "</tool_call>")),
    Header("hermes", prefix_pattern("<tool_call>", _SPACE, "{"), "json", 1, ("</tool_call>",)),
    Header("llama", prefix_pattern("<function=", _NAME, ">", _SPACE, "{"), "arguments", 1, ("</function>",)),
    Header("qwen-coder", prefix_pattern("<function=", _NAME, ">", _SPACE, "(?=<)"), "parameters", 0, ("</tool_call>",)),
    Header(
        "qwen-coder",
        prefix_pattern("<tool_call>", _SPACE, "<function=", _NAME, ">", _SPACE, "(?=<)"),
        "parameters",
        0,
        ("</tool_call>",),
    ),
    Header("mistral", prefix_pattern("[TOOL_CALLS]", _SPACE, _NAME, "[ARGS]", _SPACE, "{"), "arguments", 1, ()),
    Header("mistral", prefix_pattern("[TOOL_CALLS]", _SPACE, "["), "json", 1, ()),
    *(
        Header(
            "kimi",
            prefix_pattern(*section, *_KIMI, "<|tool_call_argument_begin|>", _SPACE, "{"),
            "arguments",
            1,
            ("<|tool_call_end|>", "<|tool_calls_section_end|>"),
        )
        for section in [(), ("<|tool_calls_section_begin|>", _SPACE)]
    ),
)
"""In the order in which they are tried: the general ones last."""
