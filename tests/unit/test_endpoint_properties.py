"""Whatever a model says, on any endpoint and in any reads: the reply has all of it, in order, streamed and whole."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._config import EndpointName
from amplifier_module_provider_vllm._endpoints import ENDPOINTS
from amplifier_module_provider_vllm._turn import FunctionCall, Item, Reasoning, Text
from amplifier_module_provider_vllm._updates import BlockDelta, Update
from amplifier_module_provider_vllm._wire.sse import SSEFramer
from tests.support.exchange import GET_WEATHER
from tests.support.requests import ask_of
from tests.support.rounds import FoldResult, assert_contract, characters
from tests.support.speaker import SPEAKERS, body_of
from tests.support.speech import Part, Speech, call_part, reasoning_part, text_part

ASK = ask_of(request={"tools": [GET_WEATHER]}, model="qwen3")

# Words of a text, not of a markup: what a template puts around thoughts and calls is the subject of the parser's tests.
words = st.text(st.characters(codec="utf-8", exclude_characters="<>[]{}`|"), min_size=1, max_size=6)
# A block of nothing but blanks is dropped.
pieces = st.lists(words, min_size=1, max_size=5).filter(lambda some: not "".join(some).isspace())
arguments = st.dictionaries(st.sampled_from(["city", "day"]), st.text('aü🗼 "\\{}', max_size=5), max_size=2)


@st.composite
def speeches(draw: st.DrawFn) -> Speech:
    """A thought, a text and calls, each of which may be missing."""
    parts = [reasoning_part(*draw(pieces))] if draw(st.booleans()) else []
    calls = draw(st.lists(arguments, max_size=2))
    if not calls or draw(st.booleans()):
        parts.append(text_part(*draw(pieces), *(["\n"] if calls else [])))
    for number, each in enumerate(calls):
        raw = json.dumps(each, ensure_ascii=draw(st.booleans()))
        cut = draw(st.integers(1, len(raw)))
        parts.append(call_part("get_weather", raw[:cut], raw[cut:], call_id=f"call_{number}"))
    return Speech(tuple(parts))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(max_examples=40)
@given(speech=speeches(), data=st.data())
def test_a_streamed_reply_has_what_the_model_says(endpoint: EndpointName, speech: Speech, data: st.DataObject) -> None:
    body = b"".join(SPEAKERS[endpoint].stream(speech).events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=4)))

    folded = fold_stream(endpoint, body, cuts)

    assert folded.turn is not None
    assert [_comparable(item) for item in folded.turn.items] == [_said(part) for part in speech.parts]
    assert _shown(folded) == [part.text for part in speech.parts if part.kind != "call"]
    assert_contract(folded)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(max_examples=40)
@given(speech=speeches())
def test_an_unstreamed_reply_has_what_the_model_says(endpoint: EndpointName, speech: Speech) -> None:
    row, blocks = ENDPOINTS[endpoint], Blocks()
    fold = row.fold(blocks, ASK, None)

    updates = list(fold.push_all([row.decode_whole(body_of(SPEAKERS[endpoint], speech))]))

    assert fold.turn is not None
    assert [_comparable(item) for item in fold.turn.items] == _whole(speech)
    assert_contract(FoldResult(updates, fold.turn, fold.failure))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(max_examples=40)
@given(speech=speeches(), data=st.data())
def test_a_stream_that_stops_anywhere_is_no_reply(endpoint: EndpointName, speech: Speech, data: st.DataObject) -> None:
    stream = SPEAKERS[endpoint].stream(speech)
    unended = stream.unended
    stop = data.draw(st.integers(0, len(unended)))

    folded = fold_stream(endpoint, b"".join(unended[:stop]), [])

    assert folded.turn is None
    assert folded.failure is None
    assert_contract(folded)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(max_examples=40)
@given(speech=speeches())
def test_the_blocks_do_not_depend_on_the_reads(endpoint: EndpointName, speech: Speech) -> None:
    body = b"".join(SPEAKERS[endpoint].stream(speech).events)

    at_once = fold_stream(endpoint, body, [])
    byte_by_byte = fold_stream(endpoint, body, list(range(1, len(body), 7)))

    assert characters(at_once.updates) == characters(byte_by_byte.updates)
    assert at_once.turn == byte_by_byte.turn


def fold_stream(endpoint: EndpointName, body: bytes, cuts: list[int]) -> FoldResult:
    """The round of a stream that is read in these parts."""
    row = ENDPOINTS[endpoint]
    fold = row.fold(Blocks(), ASK, None)
    framer = SSEFramer()
    updates: list[Update] = []
    reads = [framer.feed(body[start:stop]) for start, stop in pairwise([0, *cuts, len(body)])]
    for frames in [*reads, framer.end()]:
        events = [event for frame in frames if (event := row.decode(frame)) is not None]
        updates += list(fold.push_all(events))
    updates += list(fold.end())
    return FoldResult(updates, fold.turn, fold.failure)


def _said(part: Part) -> tuple[str, str]:
    return ("call", str(json.loads(part.text))) if part.kind == "call" else (part.kind, part.text)


def _whole(speech: Speech) -> list[tuple[str, str]]:
    return [_said(part) for part in speech.parts]


def _comparable(item: Item) -> tuple[str, str]:
    match item:
        case Reasoning(text=text):
            return "reasoning", text
        case Text(text=text):
            return "text", text
        case FunctionCall(name="get_weather", arguments=arguments):
            return "call", str(json.loads(arguments))
        case _:
            raise AssertionError(item)


def _shown(folded: FoldResult) -> list[str]:
    """The text of each block that was streamed."""
    shown: dict[int, str] = {}
    for update in folded.updates:
        if isinstance(update, BlockDelta):
            shown[update.index] = shown.get(update.index, "") + update.text
    return list(shown.values())
