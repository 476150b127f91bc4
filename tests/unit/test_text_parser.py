"""The text of a template model becomes the same blocks wherever it is cut, and the ones that vLLM's parsers give."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._family import FAMILIES, GPT_OSS, HERMES, LLAMA, MISTRAL, QWEN, TEMPLATED, Family
from amplifier_module_provider_vllm._markup.pieces import ReplyParser
from amplifier_module_provider_vllm._markup.reply_parser import reply_parser
from amplifier_module_provider_vllm._turn import FunctionCall, Item, Reasoning, Text
from tests.support.parsed import Part, chunks, parse, to_blocks
from tests.support.recordings import cases, load_recording

QWEN3 = "chat/tiny-qwen3"
REPLIES = [case.removesuffix("_full").removeprefix("cont_") for case in cases(QWEN3, "cont_*_full")]
HERMES_CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
CODER_CALL = "<tool_call>\n<function=f>\n<parameter=a>\nif x < 1:\n</parameter>\n</function>\n</tool_call>"
KIMI_CALL = "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
F_1 = FunctionCall("", "f", '{"a": 1}')
F = FunctionCall("", "f", "{}")


def parser(family: Family = TEMPLATED, *, in_reasoning: bool = False, calls: bool = True) -> ReplyParser:
    return reply_parser(family, None, in_reasoning=in_reasoning, calls=calls)


def cut_everywhere(text: str) -> Iterator[list[Part]]:
    """The text up to each place in one part, and the rest of it by letter."""
    for cut in range(len(text) + 1):
        yield [(text[:cut], ()), *((letter, ()) for letter in text[cut:])]


def server_items(message: dict[str, Any]) -> list[Item]:
    """The items of a chat reply that was not streamed."""
    reasoning, text, calls = message["reasoning"], message["content"], message.get("tool_calls", [])
    return [
        *([Reasoning(reasoning)] if reasoning else []),
        *([Text(text)] if text else []),
        *(FunctionCall("", call["function"]["name"], call["function"]["arguments"]) for call in calls),
    ]


def raw_text(case: str) -> str:
    """The text that the model wrote, markup included, as tiny-qwen3's template has taught it."""
    message = load_recording(QWEN3, f"cont_{case}_full").json["choices"][0]["message"]
    functions = [call["function"] for call in message.get("tool_calls", [])]
    calls = (f'<tool_call>\n{{"name": "{f["name"]}", "arguments": {f["arguments"]}}}\n</tool_call>' for f in functions)
    text = message["content"] or "\n\n"
    return f"<think>{message['reasoning']}</think>{text}" + "\n".join(calls)


@pytest.mark.parametrize("case", REPLIES)
def test_a_recorded_reply_is_read_as_the_server_reads_it_from_any_cut(case: str) -> None:
    text = raw_text(case)
    message = load_recording(QWEN3, f"cont_{case}_full").json["choices"][0]["message"]

    read = [
        parse(parser(QWEN), [(text[:cut], ()), *((letter, ()) for letter in text[cut:])])
        for cut in range(len(text) + 1)
    ]

    assert read == [server_items(message)] * len(read)


@pytest.mark.parametrize("case", cases(QWEN3, "cont_*_completions"))
def test_the_recorded_rest_of_a_cut_reply_completes_it(case: str) -> None:
    rest = load_recording(QWEN3, case).json["choices"][0]["text"]
    whole = raw_text(case.split("_")[1])
    continued = parser(QWEN)

    before = list(continued.push(whole.removesuffix(rest), ()))
    after = [*continued.push(rest, ()), *continued.end()]

    assert whole.endswith(rest)
    assert to_blocks([*before, *after]) == parse(parser(QWEN), [(whole, ())])


def test_a_recorded_stream_has_the_blocks_and_the_reasoning_tokens_of_the_chat_endpoint() -> None:
    body = load_recording(QWEN3, "via_completions_tool_stream").body.decode()
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    parts = [(choice["text"], choice["token_ids"]) for chunk in chunks for choice in chunk["choices"]]
    chat = load_recording(QWEN3, "chat_tool").json
    read = parser(QWEN)

    items = parse(read, parts)

    assert items == server_items(chat["choices"][0]["message"])
    assert read.reasoning_tokens == chat["usage"]["completion_tokens_details"]["reasoning_tokens"]


def test_the_reasoning_tokens_of_one_large_part_are_estimated_by_their_text() -> None:
    read = parser()

    parse(read, [("<think>aaaa</think>", range(10))])

    assert read.reasoning_tokens == 2


CALLS: dict[str, tuple[str, list[Item]]] = {
    "hermes": (HERMES_CALL, [F_1]),
    "hermes, two": (f"{HERMES_CALL}\n{HERMES_CALL}", [F_1, F_1]),
    "hermes, two in one line": (HERMES_CALL * 2, [F_1, F_1]),
    "hermes, parameters": ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', [F_1]),
    "hermes, arguments first": ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [F_1]),
    "hermes, more keys": ('<tool_call>{"name": "f", "arguments": {"a": 1}, "id": "}"}</tool_call>', [F_1]),
    "hermes, as it is written": (
        '<tool_call>{"name":"f","arguments":{"a":"\\u00e9 } </tool_call>", "b" : [1]}}</tool_call>',
        [FunctionCall("", "f", '{"a":"\\u00e9 } </tool_call>", "b" : [1]}')],
    ),
    "hermes, end tag missing": ('<tool_call>{"name": "f", "arguments": {"a": 1}}', [F_1]),
    "hermes, brace missing": ('<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', [F_1]),
    "llama": ('<function=f>{"a": 1}</function>', [F_1]),
    "qwen-coder": (CODER_CALL, [FunctionCall("", "f", '{"a": "if x < 1:"}')]),
    "qwen-coder, bare": ("<function=f>\n</function>\n<function=f>\n</function>", [F, F]),
    "qwen-coder, end of a function in a value": (
        "<function=f><parameter=a></function></parameter></function>",
        [FunctionCall("", "f", '{"a": "</function>"}')],
    ),
    "mistral": ('[TOOL_CALLS]f[ARGS]{"a": 1}', [F_1]),
    "mistral, two": ("[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[ARGS]{}", [F, F]),
    "mistral, a list": ('[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "f", "arguments": {}}]', [F, F]),
    "kimi": (KIMI_CALL, [F]),
    "kimi, a section": (f"<|tool_calls_section_begin|>{KIMI_CALL}{KIMI_CALL}<|tool_calls_section_end|>", [F, F]),
}


@pytest.mark.parametrize(("markup", "calls"), CALLS.values(), ids=CALLS)
def test_calls_are_read_in_every_format_from_any_cut(markup: str, calls: list[Item]) -> None:
    text = f"Let me see.\n{markup}"

    read = [
        parse(parser(), [(text[:cut], ()), *((letter, ()) for letter in text[cut:])]) for cut in range(len(text) + 1)
    ]

    assert read == [[Text("Let me see.\n"), *calls]] * len(read)


QUOTED = {
    "in a line": f"Write `{HERMES_CALL}",
    "after a word": "Now <function=f>{}</function>",
    "indented": f"    {HERMES_CALL}",
    "in a code block": f"```\n{HERMES_CALL}\n```\nDone.",
    "in a code block of a list": f"- ~~~xml\n{HERMES_CALL}\n",
    "a tag alone": "<tool_call> is the tag",
    "a tag at the end": "It is\n<tool_call>",
    "the start of a tag": "It is\n<tool",
    "a name alone": '<tool_call>{"name": "f"}</tool_call>',
    "no object": '<tool_call>{"name": "f", "arguments": []}</tool_call>',
    "arguments as text": '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>',
    "broken before its name": "<tool_call>{\n<b>",
    "cut before its arguments": '<tool_call>{"name": "f", "arg',
    "cut parameters": "<function=f>\n<parameter=a>\n1",
    "text after a parameter": "<function=f>\n<parameter=a>1</parameter> or </function>",
    "a list that is none": "[TOOL_CALLS][1]",
    "another family's thought": "[/THIN",
    "a thought in a text": "Use <think> tags.</think>\n<think>",
}


@pytest.mark.parametrize("text", QUOTED.values(), ids=QUOTED)
def test_text_that_is_no_call_stays_text_and_nothing_is_lost(text: str) -> None:
    read = [
        parse(parser(), [(text[:cut], ()), *((letter, ()) for letter in text[cut:])]) for cut in range(len(text) + 1)
    ]

    assert read == [[Text(text)]] * len(read)


@pytest.mark.parametrize("markup", [markup for markup, _ in CALLS.values()], ids=CALLS)
def test_without_tools_the_markup_of_calls_is_text(markup: str) -> None:
    assert parse(parser(calls=False), [(markup, ())]) == [Text(markup)]


def test_only_the_formats_of_the_family_are_calls() -> None:
    llama = '<function=f>{"a": 1}</function>'

    assert parse(parser(HERMES), [(llama, ())]) == [Text(llama)]
    assert parse(parser(LLAMA), [(llama, ())]) == [F_1]
    assert parse(parser(LLAMA), [(HERMES_CALL, ())]) == [Text(HERMES_CALL)]


def test_a_call_follows_markup_that_is_none() -> None:
    text = f"<tool_call>\n<function=\n{HERMES_CALL}"

    assert parse(parser(), [(text, ())]) == [Text("<tool_call>\n<function=\n"), F_1]


def test_text_after_a_call_is_a_block_of_its_own() -> None:
    assert parse(parser(), [(f"a\n{HERMES_CALL}\n\nb\n{HERMES_CALL}\n ", ())]) == [
        Text("a\n"),
        F_1,
        Text("\n\nb\n"),
        F_1,
    ]


BROKEN = {
    "a quote in a string": ('{"a": "say "<hi>""}', '{"a": "say "<hi>""}}'),
    "a line end in a string": ('{"a": "x\ny"}', '{"a": "x\ny"}}'),
    "a brace missing": ('{"a": [1, 2', '{"a": [1, 2}'),
}


@pytest.mark.parametrize(("arguments", "read"), BROKEN.values(), ids=BROKEN)
def test_a_named_call_with_invalid_arguments_ends_at_its_end_tag(arguments: str, read: str) -> None:
    """So that the model is told, and can correct it."""
    text = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call> b'

    assert parse(parser(), chunks(text, range(len(text)))) == [FunctionCall("", "f", read), Text(" b")]


def test_a_named_call_without_an_end_is_not_complete() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": "x'

    assert parse(parser(), [(text, ())]) == [FunctionCall("", "f", '{"a": "x', complete=False)]


THOUGHTS: dict[str, tuple[Family, bool, str, list[Item]]] = {
    "tags": (QWEN, False, "<think>\na\n</think>\n\nb", [Reasoning("\na\n"), Text("\n\nb")]),
    "opened by the template": (QWEN, True, "a\n</think>\n\nb", [Reasoning("a\n"), Text("\n\nb")]),
    "opened twice": (QWEN, True, "\n<think>\na</think>b", [Reasoning("\n\na"), Text("b")]),
    "opened three times": (QWEN, True, "<think><think>a</think>b", [Reasoning("a"), Text("b")]),
    "empty": (QWEN, False, "<think>\n\n</think>\n\nb", [Text("\n\nb")]),
    "never closed": (QWEN, False, "<think>a </thin", [Reasoning("a </thin")]),
    "closed twice": (QWEN, False, "<think>a</think>\n</think>\n\nb", [Reasoning("a"), Text("\n\n\nb")]),
    "a call in it": (QWEN, False, f"<think>\n{HERMES_CALL}</think>", [Reasoning(f"\n{HERMES_CALL}")]),
    "a call after it": (QWEN, False, f"<think>a</think>{HERMES_CALL}", [Reasoning("a"), F_1]),
    "two": (
        QWEN,
        False,
        f"<think>a</think>{HERMES_CALL}<think>b</think>c",
        [Reasoning("a"), F_1, Reasoning("b"), Text("c")],
    ),
    "Mistral": (MISTRAL, False, "[THINK]a[/THINK]b", [Reasoning("a"), Text("b")]),
    "Mistral's older tags": (MISTRAL, False, "<think>a</think>b", [Reasoning("a"), Text("b")]),
    "of another family": (QWEN, False, "[THINK]a[/THINK]b", [Text("[THINK]a[/THINK]b")]),
}


@pytest.mark.parametrize(("family", "in_reasoning", "text", "items"), THOUGHTS.values(), ids=THOUGHTS)
def test_thoughts_stand_between_tags(family: Family, in_reasoning: bool, text: str, items: list[Item]) -> None:
    once = parse(parser(family, in_reasoning=in_reasoning), [(text, ())])
    by_letter = parse(parser(family, in_reasoning=in_reasoning), chunks(text, range(len(text))))

    assert once == by_letter == items


def test_text_is_held_back_only_while_it_may_be_markup() -> None:
    read = parser()

    shown = [
        [piece.delta for piece in read.push(text, ())] for text in ["\n", "a <", "b", "\n", "<tool", "_box>", "\n "]
    ]

    assert shown == [[], ["\na <"], ["b"], ["\n"], [], ["<tool_box>"], ["\n"]]


def test_a_call_starts_with_its_name_and_its_arguments_follow_as_they_arrive() -> None:
    read = parser()

    parts = ['<tool_call>{"name": "get', '_x", "arguments": ', '{"a', '": 1', "}}</tool_", "call>"]
    pieces = [[(piece.item, piece.delta, piece.ended) for piece in read.push(part, ())] for part in parts]

    call = FunctionCall("", "get_x", "")
    assert pieces == [
        [],
        [],
        [(call, "{", False), (call, '"a', False)],
        [(call, '": 1', False)],
        [(call, "}", True)],
        [],
    ]


WORDS = [
    "a", " ", "\n", "\n\n", "   ", '"', "\\", "`", "{", "}", "[", "]", ":", ",", "<", ">", "é", "\n```", "\n~~~~",
    "\n- ```", "<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "\n<tool_call>", "</tool_call>",
    '{"name": "f", ', '"arguments": {', "\n<function=f>", "</function>", "<parameter=a>", "</parameter>",
    "\n[TOOL_CALLS]", "f[ARGS]{", "\n<|tool_call_begin|>functions.f:0", "<|tool_call_argument_begin|>",
    "<|tool_call_end|>", HERMES_CALL, CODER_CALL, KIMI_CALL, "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>", '[{"name": "f", "arguments": {}}]',
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS), max_size=14).map("".join)


@given(
    TEXTS | st.text(),
    st.lists(st.integers(0, 200), max_size=20),
    st.sampled_from(FAMILIES),
    st.booleans(),
    st.booleans(),
)
@example("<tool_call>" + " " * 30 + "{", [12, 32], QWEN, False, True)
def test_any_text_gives_the_same_blocks_in_any_chunks(
    text: str, cuts: list[int], family: Family, in_reasoning: bool, calls: bool
) -> None:
    family = TEMPLATED if family is GPT_OSS else family

    once = parse(parser(family, in_reasoning=in_reasoning, calls=calls), [(text, ())])

    assert parse(parser(family, in_reasoning=in_reasoning, calls=calls), chunks(text, cuts)) == once
    assert parse(parser(family, in_reasoning=in_reasoning, calls=calls), chunks(text, range(len(text)))) == once


@given(TEXTS)
def test_without_tools_no_text_is_lost(text: str) -> None:
    said = text.replace("<think>", "").replace("</think>", "").replace("THINK]", "")

    assert parse(parser(calls=False), [(said, ())]) == ([Text(said)] if said.strip() else [])


def test_a_harmony_reply_needs_the_vocabulary() -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        parser(GPT_OSS)
