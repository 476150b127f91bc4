"""Fold the events of one round into updates for whoever watches, and at the end into a Turn."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

import msgspec

from .._turn import FunctionCall, Item, OtherItem, Reasoning, Text, Turn
from .._updates import BlockDelta, BlockEnd, BlockKind, BlockStart, Update
from .events import (
    Delta,
    Ended,
    ErrorSaid,
    Event,
    ItemAdded,
    ItemDone,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
)
from .output_items import WireItem, error_code, error_text, is_call, to_items, to_turn

UNSEEN = -1
"""The index of a block that has nothing to show yet."""


class ResponsesFold:
    """State of one round. Made fresh for every attempt, so nothing of a failed one can leak into the next.

    A block begins with its first character that is not white space: vLLM puts a message "\\n\\n" between Qwen's
    reasoning and its call, and whole replies do not have it.

    `before` are the items of earlier rounds, of which this round goes on with the last, a text. `may_continue` leaves a
    text open that this round cuts off in turn.
    """

    def __init__(self, before: Sequence[Item] = (), *, may_continue: bool = False) -> None:
        self.turn: Turn | None = None
        self.error: str | None = None
        self.error_code: int | None = None
        self._may_continue = may_continue
        self._blocks: dict[tuple[int, str], _Block] = {}
        self._shown = [_Block(item, index, ended=True) for index, item in enumerate(before)]
        self._streamed = _StreamedItems()
        self._continued = self._shown[-1].reopened() if before else None
        self._resting: _Block | None = None

    def replayed(self) -> Iterator[Update]:
        """The earlier rounds again, for whoever was told to forget them."""
        for block in self._shown:
            yield from _begun(block)
            if block.ended:
                yield BlockEnd(block.index, _kind(block.item))

    def closed(self) -> Iterator[Update]:
        """The end of the text that was left open, for a reply that is not continued after all."""
        yield from self._rest(None)

    def push_all(self, events: Iterable[Event]) -> Iterator[Update]:
        """The updates that all the events of one read make together, as few as there can be."""
        for event in joined(events):
            yield from self.push(event)

    def push(self, event: Event) -> Iterator[Update]:
        """The updates that an event makes. Nothing after the terminal event changes the Turn."""
        if self.turn is not None:
            return
        match event:
            case TextDelta(delta, output_index, part):
                yield from self._grow(output_index, f"content.{part}", Text(""), delta)
            case ReasoningDelta(delta, output_index, part):
                yield from self._grow(output_index, f"reasoning.{part}", Reasoning(""), delta)
            case SummaryDelta(delta, output_index, part):
                yield from self._grow(output_index, f"summary.{part}", Reasoning(""), delta)
            case RefusalDelta(delta, output_index, part):
                yield from self._grow(output_index, f"content.{part}", Text("", refusal=True), delta)
            case ItemAdded(item, output_index):
                yield from self._begin(output_index, item)
            case ItemDone(item, output_index):
                yield from self._complete(output_index, item)
            case Ended():
                yield from self._finish(event)
            case ErrorSaid(error, message, code):
                self.error = error_text(error) or message or "the server reported an error without a message"
                self.error_code = error_code(error, code)
            case _:
                assert_never(event)

    def _begin(self, output_index: int, wire: WireItem) -> Iterator[Update]:
        self._streamed.add(output_index, wire)
        if is_call(wire):
            for block in self._told(output_index, wire):
                block.announce()
                yield from self._show(block)

    def _complete(self, output_index: int, wire: WireItem) -> Iterator[Update]:
        for block in self._told(output_index, wire):
            if isinstance(block.item, FunctionCall | OtherItem):  # they have no deltas that we read
                yield from self._show(block)
            yield from self._end(block)

    def _grow(self, output_index: int, part: str, empty: Item, delta: str) -> Iterator[Update]:
        block = self._blocks.get((output_index, part)) or self._block(output_index, part, empty)
        block.pieces.append(delta)
        if block.index == UNSEEN:
            if delta and not delta.isspace():
                yield from self._show(block)
        elif delta and not block.ended and block is not self._resting:
            yield BlockDelta(block.index, _kind(block.item), delta)

    def _block(self, output_index: int, part: str, item: Item) -> "_Block":
        """A block of this round; its first text or thought goes on with the text that the last round left open.

        vLLM's reasoning parsers take the rest of a text for reasoning: they never see the mark that ended it.
        """
        block = _Block(item)
        if self._continued is not None and isinstance(item, Text | Reasoning):
            block, self._continued = self._continued, None
        self._blocks[output_index, part] = block
        return block

    def _show(self, block: "_Block") -> Iterator[Update]:
        if block.index != UNSEEN:
            return
        yield from self._rest(None)
        block.index = len(self._shown)
        self._shown.append(block)
        yield from _begun(block)

    def _end(self, block: "_Block") -> Iterator[Update]:
        if block.index == UNSEEN or block.ended:
            return
        yield from _told_at_once(block)
        if isinstance(block.item, Text) or block is self._resting:  # a server may tell the same item twice, otherwise
            yield from self._rest(block)
        else:
            block.ended = True
            yield BlockEnd(block.index, _kind(block.item))

    def _rest(self, block: "_Block | None") -> Iterator[Update]:
        """Hold back the end of a text until something follows it: a reply that was cut off goes on in its last text."""
        resting, self._resting = self._resting, block
        if resting is not None and resting is not block:
            resting.ended = True
            yield BlockEnd(resting.index, _kind(resting.item))

    def _told(self, output_index: int, wire: WireItem) -> "list[_Block]":
        """The blocks of an item that the server told whole."""
        self._streamed.add(output_index, wire)
        blocks = []
        for part, item in to_items(wire):
            block = self._blocks.get((output_index, part)) or self._block(output_index, part, item)
            block.tell(item)
            blocks.append(block)
        return blocks

    def _finish(self, ended: Ended) -> Iterator[Update]:
        places: set[int] = set()
        for position, wire in enumerate(ended.output):
            output_index = self._streamed.place(position, wire, places)
            places.add(output_index)
            for block in self._told(output_index, wire):
                if not _blank(block.settled()):
                    yield from self._show(block)
                yield from self._end(block)
        for block in self._shown:
            yield from self._end(block)
        self.turn = to_turn(ended.response, tuple(block.settled() for block in self._shown), ended.said)
        if not (self._may_continue and self.turn.cut_off):
            yield from self.closed()


def joined(events: Iterable[Event]) -> Iterator[Event]:
    """The same events, those deltas of one part made one that follow each other.

    A hook call costs the kernel 80 to 140 µs, more than all that this provider does with a token.
    """
    last: Event | None = None
    texts: list[str] = []
    for event in events:
        if isinstance(event, Delta) and isinstance(last, Delta) and event.goes_on(last):
            texts.append(event.delta)
            continue
        if last is not None:
            yield _with_texts(last, texts)
        last, texts = event, []
    if last is not None:
        yield _with_texts(last, texts)


def _with_texts(event: Event, texts: list[str]) -> Event:
    """The event, or the delta with what goes on with it."""
    if isinstance(event, Delta) and texts:
        return msgspec.structs.replace(event, delta=event.delta + "".join(texts))
    return event


@dataclass(slots=True)
class _Block:
    """One block as it grows. It has no index before it has something to show."""

    item: Item
    index: int = UNSEEN
    ended: bool = False
    pieces: list[str] = field(default_factory=list)
    before: str = ""
    """The part of a text that earlier rounds brought."""

    def reopened(self) -> "_Block":
        if isinstance(self.item, Text):
            self.before, self.item, self.ended = self.item.text, Text("", self.item.refusal), False
        return self

    def announce(self) -> None:
        if isinstance(self.item, FunctionCall):
            self.item = replace(self.item, whole=False)

    def tell(self, item: Item) -> None:
        continues = bool(self.before) and isinstance(item, Reasoning)
        self.item = Text(item.text) if continues and isinstance(item, Reasoning) else item

    def settled(self) -> Item:
        """The item as the server told it whole; as its deltas told it where the server left the text out."""
        match self.item:
            case Text(text, refusal):
                return Text(self.before + (text if text.strip() else "".join(self.pieces) or text), refusal)
            case Reasoning(text) if not text.strip():
                return Reasoning("".join(self.pieces) or text)
            case told:
                return told


class _StreamedItems:
    """Which output items the stream has told, so that the terminal event's copies of them are recognised."""

    def __init__(self) -> None:
        self._types: dict[int, str] = {}
        self._places: dict[str, int] = {}

    def add(self, output_index: int, wire: WireItem) -> None:
        self._types.setdefault(output_index, wire.type)
        if wire.id is not None:
            self._places.setdefault(wire.id, output_index)

    def place(self, position: int, wire: WireItem, taken: Collection[int]) -> int:
        """Where the stream had this item of the terminal event; not where it had one that the event listed before.

        By id; older servers make new ids for the terminal event (vLLM #47916), so else by position, else by order.
        """
        known = self._places.get(wire.id or "")
        if known is not None and known not in taken:
            return known
        if position not in taken and self._types.get(position, wire.type) == wire.type:
            return position
        free = [place for place, kind in sorted(self._types.items()) if kind == wire.type and place not in taken]
        return free[0] if free else max(self._types, default=position) + 1


def _begun(block: _Block) -> Iterator[Update]:
    kind, item = _kind(block.item), block.settled()
    yield BlockStart(block.index, kind, item.name if isinstance(item, FunctionCall) else None)
    if not isinstance(item, FunctionCall):
        text = block.before + "".join(block.pieces)
        yield BlockDelta(block.index, kind, text or item.text)


def retold(items: Sequence[Item]) -> Iterator[Update]:
    """A reply that is known whole, as if it had been streamed."""
    for index, item in enumerate(items):
        yield from _begun(_Block(item, index))
        yield BlockEnd(index, _kind(item))


def _told_at_once(block: _Block) -> Iterator[Update]:
    """The rest of a continued text, where the server told it without deltas."""
    if block.before and not block.pieces and isinstance(block.item, Text) and block.item.text:
        block.pieces.append(block.item.text)
        yield BlockDelta(block.index, "text", block.item.text)


def _kind(item: Item) -> BlockKind:
    match item:
        case Reasoning():
            return "thinking"
        case FunctionCall():
            return "tool_use"
        case Text() | OtherItem():
            return "text"
        case _:
            assert_never(item)


def _blank(item: Item) -> bool:
    return isinstance(item, Text | Reasoning) and not item.text.strip()
