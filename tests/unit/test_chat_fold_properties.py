"""No chat stream loses a delta, duplicates a block or breaks the fold, however it is split into reads."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._chat.events import Chunk, Done, ErrorEvent, Event
from amplifier_module_provider_vllm._chat.wire import CallDelta, TextDelta
from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._turn import FunctionCall, Text
from tests.support.chat_rounds import chunk, fold_batches, fold_reads, stream, turn_of_body, turn_of_stream, whole
from tests.support.rounds import assert_contract, characters

text_deltas = st.builds(TextDelta, st.sampled_from(["reasoning", "details", "text", "refusal"]), st.text(max_size=3))
call_deltas = st.builds(
    CallDelta,
    st.sampled_from([None, 0, 1]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from(["", "get_", "get_weather", "get_time", "other"]),
    st.sampled_from(["", "{}", '{"city": ', '"x"}']),
)
chunks = st.builds(
    Chunk,
    st.lists(st.one_of(text_deltas, text_deltas, call_deltas), max_size=3),
    st.sampled_from([None, None, None, "stop", "length", "tool_calls", "abort"]),
    st.sampled_from([None, [], [7]]),
    is_split=st.booleans(),
)
made_events = st.lists(
    st.one_of(chunks, chunks, chunks, st.builds(Done), st.builds(ErrorEvent, st.builds(Failure, st.text(max_size=3)))),
    max_size=15,
)
replies = st.lists(st.tuples(st.sampled_from(["reasoning", "content"]), st.text(max_size=4)), max_size=12)


@given(made_events)
def test_any_events_fold_in_contract_order(events: list[Event]) -> None:
    assert_contract(fold_batches([event] for event in events))


@given(made_events, st.lists(st.integers(0, 15), max_size=4))
def test_joined_deltas_of_a_read_equal_the_single_ones(events: list[Event], cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), max(15, len(events))]

    joined = fold_batches(events[start:stop] for start, stop in pairwise(bounds))

    single = fold_batches([event] for event in events)
    assert characters(joined.updates) == characters(single.updates)
    assert (joined.turn, joined.failure) == (single.turn, single.failure)


@given(replies, st.lists(st.integers(0, 4_000), max_size=6))
def test_a_stream_is_the_same_wherever_its_reads_end(deltas: list[tuple[str, str]], cuts: list[int]) -> None:
    body = stream(*(chunk({kind: text}) for kind, text in deltas), chunk(finish_reason="stop"))
    bounds = [0, *sorted(cuts), max(4_000, len(body))]

    pieces = fold_reads(body[start:stop] for start, stop in pairwise(bounds))

    whole_read = fold_reads([body])
    assert (pieces.turn, characters(pieces.updates)) == (whole_read.turn, characters(whole_read.updates))


@given(st.text(), st.text(), st.text(), st.lists(st.integers(0, 30), max_size=3))
def test_a_streamed_message_is_the_unstreamed_one(reasoning: str, content: str, city: str, cuts: list[int]) -> None:
    message: dict[str, Any] = {"reasoning": reasoning, "content": content}
    call = {"index": 0, "id": "a", "function": {"name": "get_time", "arguments": city}}
    bounds = [0, *sorted(cuts), 1_000]
    deltas = [{key: text[start:stop]} for key, text in message.items() for start, stop in pairwise(bounds)]

    streamed = turn_of_stream(*map(chunk, deltas), chunk({"tool_calls": [call]}, "tool_calls"))

    unstreamed = turn_of_body(whole({**message, "tool_calls": [call]}, "tool_calls"))
    assert streamed == unstreamed
    assert streamed.items[-1] == FunctionCall("a", "get_time", city, unrecognised=True)
    assert Text(content) in streamed.items or not content.strip()
