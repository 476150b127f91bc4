"""Joining the deltas of one read keeps every character, its part and its order."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._responses.events import (
    Delta,
    ErrorEvent,
    Event,
    ItemDone,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
)
from amplifier_module_provider_vllm._responses.fold import join_deltas
from amplifier_module_provider_vllm._responses.items import WireItem

DONE = ItemDone(WireItem(), 0)

places = st.integers(0, 1)
deltas = st.one_of(
    *(st.builds(kind, st.text(max_size=3), places, places) for kind in (TextDelta, ReasoningDelta, RefusalDelta)),
    st.builds(SummaryDelta, st.text(max_size=3), places, places),
)
events_of_a_read = st.lists(st.one_of(deltas, deltas, st.just(DONE), st.just(ErrorEvent(Failure("no")))), max_size=20)


def characters(events: Sequence[Event]) -> list[object]:
    """All events, with each delta split into characters."""
    characters_seen: list[object] = []
    for event in events:
        if isinstance(event, Delta):
            characters_seen += [(type(event), event.output_index, event.part, character) for character in event.delta]
        else:
            characters_seen.append(event)
    return characters_seen


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], []),
        ([TextDelta("a"), TextDelta("b"), TextDelta("c")], [TextDelta("abc")]),
        (
            [ReasoningDelta("a"), ReasoningDelta("b"), DONE, TextDelta("c", 1), TextDelta("d", 1)],
            [ReasoningDelta("ab"), DONE, TextDelta("cd", 1)],
        ),
        ([TextDelta("a"), DONE, TextDelta("b")], [TextDelta("a"), DONE, TextDelta("b")]),
        ([TextDelta("a", 0), TextDelta("b", 1), TextDelta("c", 1, 1)],) * 2,
        ([TextDelta("a"), RefusalDelta("b"), ReasoningDelta("c"), SummaryDelta("d")],) * 2,
    ],
    ids=["nothing", "one part", "two items", "an item that ends between", "other places", "other kinds"],
)
def test_adjacent_deltas_of_one_part_are_joined(events: list[Event], expected: list[Event]) -> None:
    assert list(join_deltas(events)) == expected


@given(events_of_a_read)
def test_nothing_is_lost_or_reordered(events: list[Event]) -> None:
    assert characters(list(join_deltas(events))) == characters(events)


@given(events_of_a_read)
def test_no_adjacent_deltas_of_one_part_remain(events: list[Event]) -> None:
    neighbours = pairwise(join_deltas(events))

    assert not any(isinstance(a, Delta) and isinstance(b, Delta) and b.continues(a) for a, b in neighbours)
