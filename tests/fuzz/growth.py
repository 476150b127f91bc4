"""Texts that repeat a few words, and every function that reads a text of a server."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Final

import openai

from amplifier_module_provider_vllm._control_tokens import escape_control_tokens
from amplifier_module_provider_vllm._errors import to_llm_error
from amplifier_module_provider_vllm._family import FAMILIES, Family, family_of
from amplifier_module_provider_vllm._limits import window_in_refusal
from amplifier_module_provider_vllm._markup.recovery import ends_in_call, recover_calls
from amplifier_module_provider_vllm._markup.text_parser import TextParser
from amplifier_module_provider_vllm._response_handling import parse_arguments
from amplifier_module_provider_vllm._server_text import page_title, sanitize
from amplifier_module_provider_vllm._turn import FunctionCall, Status, Text, Turn
from amplifier_module_provider_vllm._visible_text import VisibleText
from amplifier_module_provider_vllm._wire.chunks import ChunkJoiner
from tests.support.growth import assert_linear, repeat
from tests.support.rounds import to_frames
from tests.support.routes import wire

URL: Final = "http://vllm.test/v1"

PIECE: Final = 16
"""Characters of a delta or a read, so that a cost per read shows."""

WORDS: Final = (
    "", "a", "1", " ", "\n", "\n\n", "\r\n", "\t", "   ", '"', "'", "\\", "`", "{", "}", "[", "]", ":", ",", "<", "|",
    ">", "@", "//", "/", "&", '{"a": ', '{"a": "', '{"name": "f", "arguments": {}}', "é", "\x1b", "\u200b", "```",
    "\n```", "\n~~~~", "\n- ```", "\n1. ", "<think>", "</think>", "<tool_call>", "\n<tool_call>", "</tool_call>",
    "<function=f>", "\n<function=f>", "<function=", "</function>", "<parameter=a>", "</parameter>", "[TOOL_CALLS]",
    "\n[TOOL_CALLS]", "[TOOL_CALLS]f[ARGS]", "<|start|>assistant", "<|channel|>",
    "\n<|channel|>commentary to=functions.f", "<|message|>", "<|end|>", "<|call|>", "<|constrain|>json", "<|", "|>",
    " to=", "<|tool_call_begin|>", "\n<|tool_call_begin|>functions.f:0", "<|tool_call_argument_begin|>",
    "<|tool_call_end|>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<title>", "</title>",
    "<title ", "<html>", "data: x", "event: response.x\n", "maximum context length is ", "max_model_len=",
    "HTTP/1.1 200 OK\r\n", "qwen", "stral", "\ntransfer-encoding: chunked",
    "<｜", "<</SYS", "[/INST", "SPECIAL_", "]~", "<|/",
)  # fmt: skip


def _recover(family: Family, text: str) -> None:
    recover_calls(Turn((Text(text, raw=text),), Status.COMPLETED), ["f"], family)


def _ends_in_call(family: Family, text: str) -> None:
    ends_in_call(Text(text), family)


def _visible(stop: list[str], text: str) -> None:
    visible = VisibleText(stop)
    for piece in _pieces(text):
        visible.push(piece)
    visible.end()


def _parse(family: Family, text: str) -> None:
    parser = TextParser(family, in_reasoning=False, calls=True)
    for piece in _pieces(text):
        deque(parser.push(piece, ()), maxlen=0)
    deque(parser.end(), maxlen=0)


def _chunks(text: str) -> None:
    joiner = ChunkJoiner()
    for piece in _pieces(text):
        joiner.feed(piece.encode())


def _frames(text: str) -> None:
    to_frames(piece.encode() for piece in _pieces(text))


def _refusal(status: int, text: str) -> None:
    """As a web page and as the address of a redirect."""
    request = wire.Request("POST", URL)
    headers = [(b"content-type", b"text/html"), (b"location", text.encode())]
    answer = wire.Response(status, headers=headers, content=text.encode(), request=request)
    to_llm_error(openai.APIStatusError("refused", response=answer, body=text), "m", URL)


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


READERS: Final[Mapping[str, Callable[[str], object]]] = {
    **{
        f"{run.__name__.strip('_')} {family.name}": partial(run, family)
        for run, family in product((_recover, _ends_in_call), FAMILIES)
    },
    "visible": partial(_visible, []),
    "visible with stop strings": partial(_visible, ["aaaa\n", "<tool_call>"]),
    "chunks": _chunks,
    "frames": _frames,
    "redirect": partial(_refusal, 302),
    "refusal": partial(_refusal, 400),
    "page title": page_title,
    "sanitize": sanitize,
    "window": lambda text: window_in_refusal(sanitize(text)),
    "arguments": lambda text: parse_arguments(FunctionCall("c", "f", text), {}),
    "control tokens": escape_control_tokens,
    "family": family_of,
    **{f"parse {family.name}": partial(_parse, family) for family in FAMILIES},
}


def growth(data: bytes) -> None:
    """The first byte is the reader, the next three are words around a unit, the others are the unit's words."""
    if len(data) < 5:
        return
    run = [*READERS.values()][data[0] % len(READERS)]
    before, after, last, *unit = (WORDS[byte % len(WORDS)] for byte in data[1:12])
    assert_linear(run, repeat(before, "".join(unit), after + last))
