"""Any stream folds into blocks with the same indices in the stream and in the response."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

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
from amplifier_module_provider_vllm._responses.items import WireItem, WirePart, WireResponse
from amplifier_module_provider_vllm._turn import FunctionCall, Item, OtherItem, Reasoning, Status, Text, Turn
from amplifier_module_provider_vllm._updates import BlockDelta, BlockEnd, BlockStart, Update
from tests.support.recordings import load_recording
from tests.support.rounds import MODELS, events_of, fold_events, streams_of, turn_of

# A truncated call is a call if streamed, but markup if not. And one recording was sampled, not greedy.
STREAMED_DIFFERENTLY = {
    ("tiny-qwen3", "r5_cut_in_call_20_stream"),
    ("tiny-qwen3", "r5_cut_in_call_25_stream"),
    ("tiny-qwen3", "r5_cut_in_call_30_stream"),
    ("tiny-qwen3", "tc_allowed_tools_stream"),
    ("tiny-gpt-oss", "r1_no_sampling_params_stream"),
}
UNPAIRED = {"logprobs_stream", "response_messages_stream", "image_input_stream_stream"}

STREAMS = streams_of(*MODELS, pattern="*_stream")
PAIRED = [stream for stream in STREAMS if stream not in STREAMED_DIFFERENTLY and stream[1] not in UNPAIRED]


def message(text: str, item_id: str | None = None) -> WireItem:
    return WireItem("message", content=[WirePart("output_text", text)], id=item_id)


def reasoning(text: str, item_id: str | None = None) -> WireItem:
    return WireItem("reasoning", content=[WirePart("reasoning_text", text)], id=item_id)


def call(name: str, arguments: str = "{}", item_id: str | None = None) -> WireItem:
    return WireItem("function_call", call_id=f"call_{name}", name=name, arguments=arguments, id=item_id)


def terminal_event(*output: WireItem, **response: Any) -> TerminalEvent:
    return TerminalEvent(WireResponse(status="completed", **response), list(output))


def items(events: Sequence[Event]) -> tuple[Item, ...] | None:
    turn = fold_events(events).turn
    return None if turn is None else turn.items


def updates_of(items: Sequence[Item]) -> list[Update]:
    """The expected updates for these items: block after block, the deltas of each block joined."""
    expected: list[Update] = []
    for index, item in enumerate(items):
        match item:
            case FunctionCall(name=name):
                expected += [BlockStart(index, "tool_use", name), BlockEnd(index, "tool_use")]
            case Reasoning(text):
                expected += [BlockStart(index, "thinking"), BlockDelta(index, "thinking", text)]
                expected += [BlockEnd(index, "thinking")]
            case Text(text) | OtherItem(text=text):
                expected += [BlockStart(index, "text"), BlockDelta(index, "text", text), BlockEnd(index, "text")]
    return expected


def with_deltas_joined(updates: Sequence[Update]) -> list[Update]:
    texts: dict[int, str] = {}
    for update in updates:
        if isinstance(update, BlockDelta):
            texts[update.index] = texts.get(update.index, "") + update.text
    joined: list[Update] = []
    for update in updates:
        if not isinstance(update, BlockDelta):
            joined.append(update)
        if isinstance(update, BlockStart) and update.index in texts:
            joined.append(BlockDelta(update.index, update.kind, texts[update.index]))
    return joined


def without_id(call: FunctionCall) -> FunctionCall:
    return msgspec.structs.replace(call, call_id="")


def without_ids(turn: Turn) -> tuple[Any, ...]:
    """The turn without ids, which differ between two runs of one question."""
    bare = [without_id(item) if isinstance(item, FunctionCall) else item for item in turn.items]
    counts = turn.usage and (turn.usage.input_tokens, turn.usage.output_tokens, turn.usage.reasoning_tokens)
    return bare, turn.status, turn.incomplete_reason, turn.model, counts


@pytest.mark.parametrize(("group", "case"), PAIRED)
def test_a_reply_is_the_same_streamed_and_whole(group: str, case: str) -> None:
    streamed = turn_of(load_recording(group, case))
    whole = turn_of(load_recording(group, case.removesuffix("_stream")))

    assert without_ids(streamed) == without_ids(whole)


@pytest.mark.parametrize(("group", "case"), STREAMS)
def test_the_stream_updates_match_the_items_of_the_turn(group: str, case: str) -> None:
    round_ = fold_events(events_of(load_recording(group, case)))

    assert round_.turn is not None
    assert with_deltas_joined(round_.updates) == updates_of(round_.turn.items)


@pytest.mark.parametrize(("group", "case"), STREAMS)
def test_an_unstreamed_reply_gives_the_updates_of_its_stream(group: str, case: str) -> None:
    *_, end = events_of(load_recording(group, case))

    round_ = fold_events([end])

    assert round_.turn is not None
    assert round_.updates == updates_of(round_.turn.items)


def test_whitespace_between_reasoning_and_call_is_not_a_block() -> None:
    recording = load_recording("tiny-qwen3", "r2_tool_stream")

    round_ = fold_events(events_of(recording))

    assert b'"text":"\\n\\n"' in recording.body
    assert round_.turn is not None
    assert [type(item) for item in round_.turn.items] == [Reasoning, FunctionCall]
    assert [update.index for update in round_.updates if isinstance(update, BlockStart)] == [0, 1]


def test_a_truncated_reply_is_incomplete() -> None:
    turn = turn_of(load_recording("tiny-qwen3", "r5_long_cut_stream"))

    assert (turn.status, turn.incomplete_reason) == (Status.INCOMPLETE, "max_output_tokens")


def test_an_item_that_only_the_terminal_event_contains_comes_last() -> None:
    round_ = fold_events(
        [TextDelta("Hi", 0), ItemDone(message("Hi"), 0), terminal_event(message("Hi"), call("get_time"))]
    )

    assert round_.turn is not None
    assert round_.turn.items == (Text("Hi"), FunctionCall("call_get_time", "get_time", "{}"))
    assert with_deltas_joined(round_.updates) == updates_of(round_.turn.items)


def test_a_call_without_events_does_not_shift_its_neighbours() -> None:
    """gpt-oss calling without arguments sends no event for it (vLLM 0.32)."""
    streamed: list[Event] = [ReasoningDelta("Hm", 0), ItemDone(reasoning("Hm", "rs_1"), 0)]
    after: list[Event] = [ItemAdded(call("b", "", "fc_2"), 2), ItemDone(call("b", '{"x": 1}', "fc_2"), 2)]

    folded_items = items(
        [*streamed, *after, terminal_event(reasoning("Hm", "rs_1"), call("a"), call("b", '{"x": 1}', "fc_2"))]
    )

    assert folded_items == (Reasoning("Hm"), FunctionCall("call_b", "b", '{"x": 1}'), FunctionCall("call_a", "a", "{}"))


@pytest.mark.parametrize(
    "output",
    [
        [reasoning("Hm", "x"), message("\n\n", "y"), call("a", "{}", "z"), call("b", "{}", "w")],
        [reasoning("Hm"), call("a"), call("b")],
        [call("a", "{}", "z"), call("b", "{}", "w")],
        [reasoning("Hm", ""), call("a", "{}", ""), call("b", "{}", "")],
        [],
    ],
    ids=["ids that differ", "no ids and no white space", "calls only", "empty ids", "nothing"],
)
def test_the_terminal_event_adds_no_duplicate_items(output: list[WireItem]) -> None:
    streamed: list[Event] = [
        ReasoningDelta("Hm", 0),
        ItemDone(reasoning("Hm", "rs_1"), 0),
        TextDelta("\n\n", 1),
        ItemDone(message("\n\n", "msg_1"), 1),
        ItemAdded(call("a", "", "fc_1"), 2),
        ItemDone(call("a", "{}", "fc_1"), 2),
        ItemAdded(call("b", "", "fc_2"), 3),
        ItemDone(call("b", "{}", "fc_2"), 3),
    ]

    folded_items = items([*streamed, terminal_event(*output)])

    assert folded_items == (Reasoning("Hm"), FunctionCall("call_a", "a", "{}"), FunctionCall("call_b", "b", "{}"))


def test_the_terminal_copy_of_a_call_wins() -> None:
    added, done = ItemAdded(call("a", "", "fc_1"), 0), ItemDone(call("a", "{", "fc_1"), 0)

    assert items([added, done, terminal_event(call("a", '{"x": 1}', "fc_1"))]) == (
        FunctionCall("call_a", "a", '{"x": 1}'),
    )


def test_reasoning_and_text_under_one_index_do_not_mix() -> None:
    updates = fold_events([ReasoningDelta("Hm", 0), TextDelta("Hi", 0), ReasoningDelta("!", 0)]).updates

    assert [(u.index, u.text) for u in updates if isinstance(u, BlockDelta)] == [(0, "Hm"), (1, "Hi"), (0, "!")]


def test_reasoning_completed_before_its_deltas_is_shown_once() -> None:
    """Gateways that speak OpenResponses send the item's end first."""
    deltas: list[Event] = [ReasoningDelta("Hm,", 0), ReasoningDelta(" so", 0), TextDelta("Hi", 1)]
    events = [ItemDone(reasoning("Hm, so"), 0), *deltas]

    round_ = fold_events([*events, terminal_event(reasoning("Hm, so"), message("Hi"))])

    assert round_.turn is not None
    assert round_.turn.items == (Reasoning("Hm, so"), Text("Hi"))
    assert [update.text for update in round_.updates if isinstance(update, BlockDelta)] == ["Hm,", " so", "Hi"]


@pytest.mark.parametrize("late", [TextDelta("!", 0), ReasoningDelta("?", 1)], ids=["text", "reasoning"])
def test_a_delta_after_its_item_is_done_changes_nothing(late: Event) -> None:
    streamed: list[Event] = [TextDelta("Hi", 0), ItemDone(message("Hi"), 0)]
    streamed += [ReasoningDelta("Hm", 1), ItemDone(reasoning("Hm"), 1)]
    end = terminal_event(message("Hi"), reasoning("Hm"))

    late_round, round_ = fold_events([*streamed, late, end]), fold_events([*streamed, end])

    assert late_round == round_


@pytest.mark.parametrize(
    "late",
    [
        TextDelta("!", 0), TextDelta("new", 7), ItemAdded(call("a"), 8), ItemDone(call("a"), 8),
        ErrorEvent(Failure("too late")), terminal_event(message("another reply"), id="resp_2"),
    ],
    ids=["delta", "new block", "item added", "item done", "error", "second end"],
)  # fmt: skip
def test_events_after_the_terminal_event_are_ignored(late: Event) -> None:
    events: list[Event] = [TextDelta("Hi", 0), terminal_event(message("Hi"), id="resp_1")]

    assert fold_events([*events, late]) == fold_events(events)


def test_refusals_and_summaries_are_separate_blocks() -> None:
    summary = WireItem("reasoning", summary=[WirePart("summary_text", "So"), WirePart("summary_text", "and so")])
    refusal = WireItem(content=[WirePart("refusal", refusal="I will not.")])
    streamed: list[Event] = [SummaryDelta("So", 0, 0), SummaryDelta("and so", 0, 1), RefusalDelta("I will not.", 1)]

    round_, whole = (
        fold_events([*streamed, terminal_event(summary, refusal)]),
        fold_events([terminal_event(summary, refusal)]),
    )

    assert round_.turn is not None
    assert round_.turn.items == (Reasoning("So"), Reasoning("and so"), Text("I will not.", refusal=True))
    assert round_.turn == whole.turn


@pytest.mark.parametrize("failure", [Failure("engine dead", 500), Failure("")], ids=["a reason", "no reason"])
def test_an_error_event_ends_the_round_without_a_turn(failure: Failure) -> None:
    round_ = fold_events([TextDelta("Hi", 0), ErrorEvent(failure)])

    assert (round_.turn, round_.failure) == (None, failure)


def test_a_stream_without_a_terminal_event_has_no_turn() -> None:
    *events, _end = events_of(load_recording("tiny-qwen3", "r1_answer_stream"))

    round_ = fold_events(events)

    assert (round_.turn, round_.failure) == (None, None)
    assert "".join(u.text for u in round_.updates if isinstance(u, BlockDelta)).endswith("Paris.")
