"""No stream loses a delta, duplicates a block or breaks the fold."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._responses.events import (
    ErrorEvent,
    Event,
    ItemAdded,
    ItemDone,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TerminalEvent,
    TextDelta,
)
from amplifier_module_provider_vllm._responses.fold import ResponsesFold
from amplifier_module_provider_vllm._responses.items import WireItem, WirePart, WireResponse
from amplifier_module_provider_vllm._turn import FunctionCall, Item, Reasoning, Text
from amplifier_module_provider_vllm._updates import BlockDelta, Update
from tests.support.recordings import load_recording
from tests.support.rounds import MODELS, assert_contract, characters, events_of, fold_events, streams_of

SHORT = [stream for stream in streams_of(*MODELS) if len(load_recording(*stream).body) < 20_000]


@dataclass(frozen=True)
class StreamedItem:
    """An item as a correct server streams it: its deltas, if any, then the final item."""

    item: Item
    deltas: list[str]


def _text(deltas: list[str]) -> StreamedItem:
    return StreamedItem(Text("".join(deltas)), deltas)


def _reasoning(deltas: list[str]) -> StreamedItem:
    return StreamedItem(Reasoning("".join(deltas)), deltas)


def _call(name: str, arguments: str) -> StreamedItem:
    return StreamedItem(FunctionCall(f"call_{name}", name, arguments), [])


def wire(item: Item, item_id: str | None, *, empty: bool = False) -> WireItem:
    match item:
        case FunctionCall(call_id, name, arguments):
            return WireItem(
                "function_call", call_id=call_id, id=item_id, name=name, arguments="" if empty else arguments
            )
        case Reasoning(text):
            return WireItem("reasoning", id=item_id, content=[] if empty else [WirePart("reasoning_text", text)])
        case _:
            return WireItem("message", id=item_id, content=[] if empty else [WirePart("output_text", item.text)])


def stream(streamed_items: list[StreamedItem], *, silent: bool, same_ids: bool) -> Iterator[Event]:
    """`silent`: only the deltas contain text, the items do not. `same_ids`: the terminal event keeps the ids."""
    for index, one in enumerate(streamed_items):
        yield ItemAdded(wire(one.item, f"id_{index}", empty=True), index)
        for delta in one.deltas:
            yield ReasoningDelta(delta, index) if isinstance(one.item, Reasoning) else TextDelta(delta, index)
        quiet = silent and not isinstance(one.item, FunctionCall)
        yield ItemDone(wire(one.item, f"id_{index}", empty=quiet), index)
    ids = [f"{'id' if same_ids else 'other'}_{index}" for index in range(len(streamed_items))]
    yield TerminalEvent(
        WireResponse(status="completed"), [wire(one.item, i) for one, i in zip(streamed_items, ids, strict=True)]
    )


deltas = st.lists(st.text(max_size=5), max_size=6)
told_items = st.lists(
    st.one_of(
        st.builds(_text, deltas),
        st.builds(_reasoning, deltas),
        st.builds(_call, st.sampled_from(["a", "b"]), st.sampled_from(["", "{}", '{"x": 1}'])),
    ),
    max_size=6,
)

indices = st.integers(min_value=0, max_value=3)
parts = st.lists(st.builds(WirePart, st.sampled_from(["output_text", ""]), st.one_of(st.none(), st.text(max_size=3))))
wire_items = st.builds(
    WireItem,
    st.sampled_from(["message", "reasoning", "function_call", "mcp_call", "web_search_call"]),
    content=st.one_of(st.none(), st.text(min_size=1, max_size=3), parts),
    summary=st.one_of(st.none(), parts),
    call_id=st.sampled_from([None, "", "call_1"]),
    id=st.sampled_from([None, "", "id_1", "id_2"]),
    name=st.sampled_from([None, "get_weather"]),
    arguments=st.sampled_from([None, "", "{", "{}"]),
)
made_events = st.one_of(
    st.builds(TextDelta, st.text(max_size=3), indices, indices),
    st.builds(ReasoningDelta, st.text(max_size=3), indices, indices),
    st.builds(SummaryDelta, st.text(max_size=3), indices, indices),
    st.builds(RefusalDelta, st.text(max_size=3), indices, indices),
    st.builds(ItemAdded, wire_items, indices),
    st.builds(ItemDone, wire_items, indices),
    st.builds(ErrorEvent, st.builds(Failure, st.text(max_size=3))),
)
statuses = st.sampled_from(["completed", "incomplete", "failed", None])
ends = st.builds(TerminalEvent, st.builds(WireResponse, status=statuses), st.lists(wire_items, max_size=5))


def texts(updates: list[Update]) -> dict[int, str]:
    joined: dict[int, str] = {}
    for update in updates:
        if isinstance(update, BlockDelta):
            joined[update.index] = joined.get(update.index, "") + update.text
    return joined


@given(told_items, st.booleans(), st.booleans())
def test_the_turn_contains_the_streamed_items(streamed_items: list[StreamedItem], silent: bool, same_ids: bool) -> None:
    round_ = fold_events(stream(streamed_items, silent=silent, same_ids=same_ids))

    expected = tuple(one.item for one in streamed_items if isinstance(one.item, FunctionCall) or one.item.text.strip())
    assert round_.turn is not None
    assert round_.turn.items == expected
    assert_contract(round_)


@given(told_items, st.booleans(), st.booleans())
def test_no_delta_is_lost_or_reordered(streamed_items: list[StreamedItem], silent: bool, same_ids: bool) -> None:
    round_ = fold_events(stream(streamed_items, silent=silent, same_ids=same_ids))

    shown = ["".join(one.deltas) for one in streamed_items if not isinstance(one.item, FunctionCall)]
    assert list(texts(round_.updates).values()) == [text for text in shown if text.strip()]


@given(told_items, st.integers(min_value=0))
def test_the_updates_of_a_truncated_stream_are_a_prefix(streamed_items: list[StreamedItem], place: int) -> None:
    events = list(stream(streamed_items, silent=False, same_ids=True))

    cut = fold_events(events[: place % len(events)])

    assert cut.turn is None
    assert cut.updates == fold_events(events).updates[: len(cut.updates)]


@given(st.lists(made_events, max_size=15), st.one_of(st.none(), ends), st.lists(made_events, max_size=3))
def test_any_events_fold_in_contract_order(events: list[Event], end: Event | None, late: list[Event]) -> None:
    closing = [] if end is None else [end, *late]

    assert_contract(fold_events([*events, *closing]))


@given(st.data(), st.sampled_from(SHORT))
def test_recorded_events_in_any_order_fold_in_contract_order(data: st.DataObject, stream_: tuple[str, str]) -> None:
    events = data.draw(st.permutations(events_of(load_recording(*stream_))))
    place = data.draw(st.integers(0, len(events)))

    assert_contract(fold_events(events[:place]))


@given(st.lists(made_events, max_size=25), st.one_of(st.none(), ends), st.lists(st.integers(0, 25), max_size=4))
def test_merged_updates_of_a_read_equal_the_single_updates(
    events: list[Event], end: Event | None, cuts: list[int]
) -> None:
    events = [*events, *([] if end is None else [end])]
    bounds = [0, *sorted(cuts), len(events)]
    fold = ResponsesFold(Blocks())

    updates = [update for start, stop in pairwise(bounds) for update in fold.push_all(events[start:stop])]

    single = fold_events(events)
    assert characters(updates) == characters(single.updates)
    assert (fold.turn, fold.failure) == (single.turn, single.failure)
