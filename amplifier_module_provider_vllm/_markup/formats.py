"""The formats in which model families write calls in their text, each read where it starts.

Every reader is linear in what it reads: a reply may be a megabyte long, and it comes from a model.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from .._family import CallFormat
from .._strict_json import Json, json_end, read_json

SPACE: Final = re.compile(r"\s*")
LLAMA_CALL: Final = re.compile(r"\s*<function=([\w.-]+)>")
CODER_CALL: Final = re.compile(r"\s*(?:<tool_call>\s*)?<function=([\w.-]+)>")
CODER_PARAMETER: Final = re.compile(r"\s*<parameter=([\w.-]+)>")
CODER_END: Final = re.compile(r"\s*</function>(?:\s*</tool_call>)?")
MISTRAL_CALL: Final = re.compile(r"\s*\[TOOL_CALLS\]\s*([\w.-]+)\[ARGS\]")
KIMI_CALL: Final = re.compile(
    r"\s*(?:<\|tool_calls_section_begin\|>\s*)?<\|tool_call_begin\|>\s*functions\.([\w.-]+):\d+\s*<\|tool_call_argument_begin\|>"
)
KIMI_END: Final = re.compile(r"\s*<\|tool_call_end\|>(?:\s*<\|tool_calls_section_end\|>)?")
HARMONY_CALL: Final = re.compile(
    r"\s*(?:<\|start\|>assistant)?(?:<\|channel\|>(?:commentary|analysis))? to=functions\.([\w.-]+)"
    r"(?:<\|channel\|>\w+)?(?: ?<\|constrain\|>\w*| \w+)?<\|message\|>"
)
HARMONY_END: Final = re.compile(r"<\|(?:call|end)\|>|\Z")

OPENERS: Final[Mapping[CallFormat, tuple[str, ...]]] = {
    "hermes": ("<tool_call>",),
    "llama": ("<function=",),
    "qwen-coder": ("<tool_call>", "<function="),
    "mistral": ("[TOOL_CALLS]",),
    "kimi": ("<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
    "harmony": ("<|start|>assistant", "<|channel|>"),
}

BEGUN: Final[Mapping[CallFormat, re.Pattern[str]]] = {
    "hermes": re.compile(r"<tool_call>\s*(?:\{(?!.*</tool_call>)|\Z)", re.DOTALL),
    "llama": re.compile(r"<function=(?!.*</function>)", re.DOTALL),
    "qwen-coder": re.compile(
        r"(?:<tool_call>\s*)?(?:<function=(?!.*</function>\s*(?:[^<\s]|</tool_call>))|(?:<\w*)?\Z)", re.DOTALL
    ),
    "mistral": re.compile(r"\[TOOL_CALLS\]\s*(?:\[|[\w.-]+(?:\[|\Z)|\Z)"),
    "kimi": re.compile(
        r"<\|tool_calls_(?!.*<\|tool_calls_section_end\|>)|<\|tool_call_(?!.*<\|tool_call_end\|>)", re.DOTALL
    ),
    "harmony": re.compile(r"<\|(?!.*<\|(?:call|end)\|>)", re.DOTALL),
}
"""The start of a call whose end is missing, at the end of a truncated text."""


class WrittenCall(NamedTuple):
    name: str
    arguments: str
    """As JSON."""


def read_calls(text: str, formats: Sequence[CallFormat]) -> list[WrittenCall]:
    """The calls of a text that consists of calls. Raises `ValueError` for any other text."""
    calls: list[WrittenCall] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        some, at = _read_any(text, at, formats)
        calls += some
    return calls


def is_begun(text: str, formats: Sequence[CallFormat]) -> bool:
    """Whether a text that starts with markup is a call that was truncated."""
    return any(BEGUN[each].match(text) for each in formats)


def _read_any(text: str, at: int, formats: Sequence[CallFormat]) -> tuple[list[WrittenCall], int]:
    for each in formats:
        try:
            return _READERS[each](text, at)
        except ValueError:
            continue
    raise ValueError("not a call in one of the formats")


def _hermes(text: str, at: int) -> tuple[list[WrittenCall], int]:
    value, at = _json(text, _after("<tool_call>", text, at))
    return [_call(value)], _after("</tool_call>", text, at)


def _llama(text: str, at: int) -> tuple[list[WrittenCall], int]:
    call = _match(LLAMA_CALL, text, at)
    arguments, at = _json(text, call.end())
    return [WrittenCall(call[1], _object(arguments))], _after("</function>", text, at)


def _qwen_coder(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """One `<parameter=…>` for each argument. The model often leaves out the `<tool_call>` around it."""
    call = _match(CODER_CALL, text, at)
    at, arguments = call.end(), dict[str, Json]()
    while parameter := CODER_PARAMETER.match(text, at):
        end = text.index("</parameter>", parameter.end())
        arguments[parameter[1]] = text[parameter.end() : end].strip()
        at = _after("</parameter>", text, end)
    return [WrittenCall(call[1], _object(arguments))], _match(CODER_END, text, at).end()


def _mistral(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """`[TOOL_CALLS]` with a list of calls, or since Mistral's tokenizer v11 `[TOOL_CALLS]name[ARGS]{…}`."""
    if named := MISTRAL_CALL.match(text, at):
        arguments, at = _json(text, named.end())
        return [WrittenCall(named[1], _object(arguments))], at
    value, at = _json(text, _after("[TOOL_CALLS]", text, at))
    if not isinstance(value, list) or not value:
        raise ValueError("not a list of calls")
    return [_call(each) for each in value], at


def _kimi(text: str, at: int) -> tuple[list[WrittenCall], int]:
    call = _match(KIMI_CALL, text, at)
    arguments, at = _json(text, call.end())
    return [WrittenCall(call[1], _object(arguments))], _match(KIMI_END, text, at).end()


def _harmony(text: str, at: int) -> tuple[list[WrittenCall], int]:
    call = _match(HARMONY_CALL, text, at)
    arguments, at = _json(text, call.end())
    return [WrittenCall(call[1], _object(arguments))], _match(HARMONY_END, text, _skip_space(text, at)).end()


_READERS: Final[Mapping[CallFormat, Callable[[str, int], tuple[list[WrittenCall], int]]]] = {
    "hermes": _hermes,
    "llama": _llama,
    "qwen-coder": _qwen_coder,
    "mistral": _mistral,
    "kimi": _kimi,
    "harmony": _harmony,
}


def _call(value: Json) -> WrittenCall:
    match value:
        case {"name": str(name), "arguments": arguments} | {"name": str(name), "parameters": arguments}:
            return WrittenCall(name, _object(arguments))
        case _:
            raise ValueError("not a call")


def _object(value: Json) -> str:
    match value:
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            raise ValueError("the arguments are not an object")


def _json(text: str, at: int) -> tuple[Json, int]:
    start = _skip_space(text, at)
    if not text.startswith(("{", "["), start):  # a JSON error counts the lines before it
        raise ValueError("neither an object nor a list")
    end = json_end(text, start)
    return read_json(text[start:end]), end


def _after(token: str, text: str, at: int) -> int:
    start = _skip_space(text, at)
    if not text.startswith(token, start):
        raise ValueError(f"{token} is missing")
    return start + len(token)


def _match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError("not a call")
    return match


def _skip_space(text: str, at: int) -> int:
    space = SPACE.match(text, at)
    return at if space is None else space.end()
