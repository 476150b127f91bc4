"""The token ids of a gpt-oss reply become the same blocks wherever they are cut, and those that vLLM's parser gives."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._family import GPT_OSS
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from amplifier_module_provider_vllm._markup.pieces import ReplyParser
from amplifier_module_provider_vllm._markup.reply_parser import reply_parser
from amplifier_module_provider_vllm._turn import FunctionCall, Item, Reasoning, Text
from tests.support.growth import assert_linear, repeat
from tests.support.parsed import Part, parse, to_blocks
from tests.support.recordings import cases, load_recording
from tests.support.vocabulary import vocabulary_folder

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

SET = "chat/tiny-gpt-oss"
CALL = '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'
F_1 = FunctionCall("", "f", '{"a": 1}')


@cache
def encoding() -> "HarmonyEncoding":
    found = Vocabulary(vocabulary_folder()).load()
    assert found is not None
    return found


def parser() -> ReplyParser:
    return reply_parser(GPT_OSS, encoding(), in_reasoning=False, calls=True)


def to_ids(text: str) -> list[int]:
    return encoding().encode(text, allowed_special="all")


def parse_ids(ids: Sequence[int]) -> list[Item]:
    return parse(parser(), [("", ids)])


def cut_everywhere(ids: Sequence[int]) -> Iterator[list[Part]]:
    """The ids up to each place in one part, and the rest of them one by one."""
    for cut in range(len(ids) + 1):
        yield [("", ids[:cut]), *(("", [token]) for token in ids[cut:])]


def recorded_replies() -> list[str]:
    """The chat replies with token ids that ended by themselves. vLLM says so of some that its cap has cut in a call."""
    complete = [case for case in cases(SET, "c*") if is_complete(load_recording(SET, case))]
    return [case for case in complete if not case.startswith("chat_cut_in_tool")]


def is_complete(recording: Any) -> bool:
    if recording.is_stream or recording.status != 200 or "kv_transfer_params" in recording.request:
        return False
    choices = recording.json.get("choices") or [{}]
    return "message" in choices[0] and bool(choices[0]["token_ids"]) and choices[0]["finish_reason"] != "length"


def server_items(message: dict[str, Any]) -> list[Item]:
    reasoning, text, calls = message.get("reasoning"), message["content"], message.get("tool_calls", [])
    return [
        *([Reasoning(reasoning)] if reasoning else []),
        *([Text(text)] if text else []),
        *(FunctionCall("", call["function"]["name"], call["function"]["arguments"]) for call in calls),
    ]


def joined(items: Sequence[Item]) -> list[Item]:
    """As vLLM joins the messages of a reply that is not streamed."""
    thoughts = [item.text for item in items if isinstance(item, Reasoning)]
    texts = [item.text for item in items if isinstance(item, Text)]
    calls = [item for item in items if isinstance(item, FunctionCall)]
    return [
        *([Reasoning("\n".join(thoughts))] if thoughts else []),
        *([Text("\n".join(texts))] if texts else []),
        *calls,
    ]


@pytest.mark.parametrize("case", recorded_replies())
def test_a_recorded_reply_has_the_blocks_that_the_server_gives(case: str) -> None:
    choice = load_recording(SET, case).json["choices"][0]

    assert joined(parse_ids(choice["token_ids"])) == server_items(choice["message"])


@pytest.mark.parametrize("case", cases(SET, "cont_*_full"))
def test_a_recorded_reply_is_read_in_the_same_way_from_any_cut(case: str) -> None:
    ids = load_recording(SET, case).json["choices"][0]["token_ids"]

    read = [parse(parser(), parts) for parts in cut_everywhere(ids)]

    assert read == [parse_ids(ids)] * len(read)


@pytest.mark.parametrize("case", cases(SET, "cont_*_completions"))
def test_the_recorded_rest_of_a_cut_reply_completes_it(case: str) -> None:
    rest = load_recording(SET, case).json["choices"][0]["token_ids"]
    whole = load_recording(SET, f"cont_{case.split('_')[1]}_full").json["choices"][0]["token_ids"]
    continued = parser()

    before = list(continued.push("", whole[: -len(rest)]))
    after = [*continued.push("", rest), *continued.end()]

    assert whole[-len(rest) :] == rest
    assert to_blocks([*before, *after]) == parse_ids(whole)


def test_the_tokens_of_thoughts_are_counted() -> None:
    read = parser()

    parse(read, [("", to_ids(f"<|channel|>analysis<|message|>One two three<|end|><|start|>assistant{CALL}"))])

    assert read.reasoning_tokens == len(to_ids("One two three"))


START = "<|start|>assistant"
MESSAGES: dict[str, tuple[str, list[Item]]] = {
    "an answer": ("<|channel|>final<|message|>Hi<|return|>", [Text("Hi")]),
    "a preamble": (
        f"<|channel|>commentary<|message|>Let me see.<|end|>{START}{CALL}",
        [Text("Let me see."), F_1],
    ),
    "two thoughts": (
        f"<|channel|>analysis<|message|>a<|end|>{START}<|channel|>analysis<|message|>b<|end|>",
        [Reasoning("a"), Reasoning("b")],
    ),
    "a call in the analysis channel": (CALL.replace("commentary", "analysis"), [F_1]),
    "a call with the recipient first": (' to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|>', [F_1]),
    "a call of a bare name": (CALL.replace("functions.", ""), [F_1]),
    "a call that ends as a message": (CALL.replace("<|call|>", "<|end|>"), [F_1]),
    "a call without arguments": (
        "<|channel|>commentary to=functions.f<|message|><|call|>",
        [FunctionCall("", "f", "")],
    ),
    "Python": ("<|channel|>analysis to=python code<|message|>1<|call|>", [FunctionCall("", "python", "1")]),
    "a browser": (
        "<|channel|>analysis to=browser.search code<|message|>{}<|call|>",
        [FunctionCall("", "browser.search", "{}")],
    ),
    "an unknown channel": ("<|channel|>summary<|message|>Hi<|return|>", [Text("Hi")]),
    "no channel": ("<|message|>Hi<|return|>", [Text("Hi")]),
    "an empty message": (f"<|channel|>analysis<|message|><|end|>{START}{CALL}", [F_1]),
}


@pytest.mark.parametrize(("text", "items"), MESSAGES.values(), ids=MESSAGES)
def test_every_message_is_a_block(text: str, items: list[Item]) -> None:
    assert parse_ids(to_ids(text)) == items


BROKEN: dict[str, tuple[str, list[Item]]] = {
    "no header": ("Hello<|return|>", [Text("Hello")]),
    "no header and no end": ("Hello", [Text("Hello")]),
    "an invalid header": ("<|channel|>analysis to=f some words<|message|>Hi<|return|>", [Text("some wordsHi")]),
    "an unknown author": (
        "<|channel|>final<|message|>a<|end|><|start|>nobody<|message|>b<|end|>",
        [Text("a"), Text("b")],
    ),
    "a header without a message": (f"<|channel|>analysis<|end|>{START}{CALL}", [F_1]),
    "a header in a header": (f"<|channel|>analysis{START}{CALL}", [F_1]),
    "a second start": (f"{START}{CALL}", [F_1]),
    "the end of a message missing": (f"<|channel|>analysis<|message|>a{START}{CALL}", [Reasoning("a"), F_1]),
    "the end and the author missing": (f"<|channel|>analysis<|message|>a{CALL}", [Reasoning("a"), F_1]),
    "the author missing": (f"<|channel|>analysis<|message|>a<|end|>{CALL}", [Reasoning("a"), F_1]),
    "text between messages": (
        f"<|channel|>analysis<|message|>a<|end|>b{START}{CALL}",
        [Reasoning("a"), Text("b"), F_1],
    ),
    "text after the end": ("<|channel|>final<|message|>a<|return|>b", [Text("a"), Text("b")]),
    "the end of the text": ("<|channel|>final<|message|>Paris<|endoftext|>", [Text("Paris")]),
    "control tokens in a text": (
        "<|channel|>final<|message|>a<|message|>b<|constrain|>c<|startoftext|>",
        [Text("abc")],
    ),
    "two ends": ("<|channel|>final<|message|>a<|end|><|end|><|return|>", [Text("a")]),
}


@pytest.mark.parametrize(("text", "items"), BROKEN.values(), ids=BROKEN)
def test_nothing_is_lost_of_a_reply_that_breaks_the_format_whatever_the_cut(text: str, items: list[Item]) -> None:
    ids = to_ids(text)

    read = [parse(parser(), parts) for parts in cut_everywhere(ids)]

    assert read == [items] * len(read)


def test_no_part_of_a_truncated_header_is_visible() -> None:
    ids = to_ids(f"<|channel|>analysis<|message|>a<|end|>{START}{CALL}")
    header = slice(ids.index(200007), len(ids) - len(to_ids('{"a": 1}<|call|>')) - 1)

    read = [parse_ids(ids[: end + 1]) for end in range(*header.indices(len(ids)))]

    assert read == [[Reasoning("a")]] * len(read)
    assert [parse_ids(ids[:end]) for end in (0, 1, 2)] == [[]] * 3


def test_a_call_starts_with_its_name_and_its_arguments_follow_as_they_arrive() -> None:
    read, ids = parser(), to_ids(CALL)

    pieces = [(piece.item, piece.delta, piece.ended) for token in ids for piece in read.push("", [token])]

    call = FunctionCall("", "f", "")
    deltas = [encoding().decode([token]) for token in to_ids('{"a": 1}')]
    assert pieces == [(call, "", False), *((call, delta, False) for delta in deltas), (call, "", True)]


def test_a_truncated_call_is_not_complete() -> None:
    assert parse_ids(to_ids(CALL)[:-1]) == [FunctionCall("", "f", '{"a": 1}', complete=False)]


def test_a_character_in_several_tokens_arrives_whole_from_any_cut() -> None:
    said = "ü 🎉 日本 𓀀!"
    ids = to_ids(f"<|channel|>final<|message|>{said}<|return|>")

    shown = [parse_ids(ids[:end]) for end in range(len(ids))]

    assert [parse(parser(), parts) for parts in cut_everywhere(ids)] == [[Text(said)]] * (len(ids) + 1)
    assert all(said.startswith(item.text) for items in shown for item in items if isinstance(item, Text))


IDS = st.lists(
    st.sampled_from([199999, 200002, 200003, 200005, 200006, 200007, 200008, 200012, 173781, 17196, 35644, 12606, 815])
    | st.sampled_from([316, 28, 44580, 775, 220, 4108, 9048, 172, 241, 222])
    | st.integers(-2, 202_000),
    max_size=30,
)


@given(IDS, st.lists(st.integers(0, 30), max_size=6))
def test_any_ids_give_the_same_blocks_in_any_chunks(ids: list[int], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    parts = [("", ids[start:end]) for start, end in pairwise(places)]

    once = parse_ids(ids)

    assert parse(parser(), parts) == once
    assert parse(parser(), [("", [token]) for token in ids]) == once


UNITS = {
    "text": " a",
    "headers": "<|channel|>",
    "words of a header": "<|start|>assistant",
    "messages": "<|start|>assistant<|channel|>final<|message|>a<|end|>",
    "invalid messages": "<|start|>nobody<|message|>a",
    "ends": "<|end|>",
    "text between messages": "<|end|>a",
}


@pytest.mark.parametrize("before", ["", "<|channel|>final<|message|>"], ids=["a header", "a message"])
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_parsing_ids_is_linear(unit: str, before: str) -> None:
    one, start = to_ids(unit), to_ids(before)

    def run(text: str) -> None:
        parse_ids([*start, *one * (len(text) // (8 * len(one)))])

    assert_linear(run, repeat("", "x"))
