"""Reading a reply takes time in proportion to its length, whatever it contains."""

import json
from functools import partial

import pytest

from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._family import GPT_OSS, TEMPLATED, Family
from amplifier_module_provider_vllm._markup.recovery import ends_in_call, recover_calls
from amplifier_module_provider_vllm._markup.text_parser import TextParser
from amplifier_module_provider_vllm._responses.events import decode_event
from amplifier_module_provider_vllm._responses.fold import ResponsesFold
from amplifier_module_provider_vllm._turn import Status, Text, Turn
from amplifier_module_provider_vllm._visible_text import VisibleText
from amplifier_module_provider_vllm._wire.chunks import ChunkJoiner
from amplifier_module_provider_vllm._wire.sse import Frame
from tests.support.growth import assert_linear, repeat
from tests.support.parsed import chunks, parse

PARAMETER = "<function=f>\n<parameter=a>"
UNITS = {
    "openers": "<tool_call>",
    "openers on lines": "\n<tool_call>",
    "openers and braces": "\n<tool_call>{",
    "open strings": '\n<tool_call>{"a": "',
    "empty bodies": "\n<tool_call>{}</tool_call>",
    "calls": '\n<tool_call>{"name": "f", "arguments": {}}</tool_call>',
    "calls on one line": '<tool_call>{"name": "f", "arguments": {}}</tool_call>',
    "functions": "\n<function=",
    "named functions": "\n<function=f>",
    "open parameters": f"\n{PARAMETER}",
    "parameters": f"\n{PARAMETER}x</parameter>",
    "parameters of one function": "<parameter=a>x</parameter>",
    "lists": "\n[TOOL_CALLS][",
    "brackets": "[",
    "Harmony's openers": "<|channel|>commentary to=functions.f<|message|>{",
    "Harmony's openers on lines": "\n<|channel|>commentary to=functions.f<|message|>{",
    "messages": "<|end|><|channel|>",
    "Kimi's openers": "\n<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>",
    "fences": "\n```",
    "letters": "a",
    "spaces": " ",
    "lines": "\n",
    "starts of tokens": "<|",
}
BEFORE = {
    "nothing": "",
    "a call": '<tool_call>{"name": "f", "arguments": {"a": "',
    "a parameter": PARAMETER,
    "a name": "<function=",
    "Harmony's name": "<|channel|>commentary to=functions.",
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_looking_for_calls_is_linear(unit: str, before: str) -> None:
    for family in (TEMPLATED, GPT_OSS):  # all formats, and Harmony's
        assert_linear(partial(_look_for_calls, family), repeat(before, unit))
        assert_linear(partial(_look_for_calls, family), repeat(before, unit, "</parameter>"))


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_parsing_raw_text_is_linear(unit: str, before: str) -> None:
    assert_linear(_parse, repeat(before, unit))
    assert_linear(_parse, repeat("<think>", unit, "</parameter>"))


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_filtering_a_stream_is_linear(unit: str) -> None:
    assert_linear(_filter, repeat("", unit))
    assert_linear(_filter, repeat("<|start|>", unit))


@pytest.mark.parametrize("unit", ["a", "a: b\r\n", "\r", "\n "], ids=["letters", "headers", "line starts", "lines"])
def test_joining_the_chunks_of_a_long_head_is_linear(unit: str) -> None:
    assert_linear(_join_chunks, repeat("HTTP/1.1 200 OK\r\n", unit))


@pytest.mark.parametrize("kind", ["message", "function_call", "mcp_call", "mcp_list_tools"])
def test_matching_the_items_of_the_terminal_event_is_linear(kind: str) -> None:
    """With other ids and in another order than in the stream; every call is one that the server ran."""
    assert_linear(partial(_fold_items, kind), lambda count: "x" * (count // 64))


def test_a_quadratic_function_is_found() -> None:
    def quadratic(text: str) -> None:
        for at in range(0, len(text), 16):
            text.count("a", 0, at)

    with pytest.raises(AssertionError, match="4 times the input"):
        assert_linear(quadratic, repeat("", "a"))


def _fold_items(kind: str, text: str) -> None:
    fields = {"type": kind, "name": "f", "arguments": "{}", "content": "Hi", "server_label": "docs"}
    streamed = [frame("response.output_item.done", n, {**fields, "id": f"a{n}"}) for n in range(1, len(text))]
    hosted = {"type": "mcp_call", "id": "m", "name": "g", "arguments": "{}", "output": "x"}
    output = [hosted, *({**fields, "id": f"b{n}"} for n in range(len(text) // 2))]
    fold = ResponsesFold(Blocks())
    for event in [*streamed, frame("response.completed", response={"output": output})]:
        decoded = decode_event(event)
        assert decoded is not None
        list(fold.push(decoded))
    assert fold.turn is not None


def frame(name: str, output_index: int = 0, item: object = None, **fields: object) -> Frame:
    data = {"type": name, "output_index": output_index, "item": item, **fields}
    return Frame(name.encode(), json.dumps(data).encode())


def _look_for_calls(family: Family, text: str) -> None:
    recover_calls(Turn((Text(text, raw=text),), Status.COMPLETED), ["f"], family)
    ends_in_call(Text(text), family)


def _parse(text: str) -> None:
    parse(TextParser(TEMPLATED, in_reasoning=False, calls=True), chunks(text, range(0, len(text), 8)))


def _filter(text: str) -> None:
    visible = VisibleText(["aaaab"])
    for at in range(0, len(text), 8):
        visible.push(text[at : at + 8])
    visible.end()


def _join_chunks(text: str) -> None:
    joiner = ChunkJoiner()
    for at in range(0, len(text), 8):
        joiner.feed(text[at : at + 8].encode())
