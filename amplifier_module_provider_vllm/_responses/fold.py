"""Fold the events of one round into updates for whoever watches, and at the end into a Turn."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import assert_never

from .._turn import FunctionCall, Item, OtherItem, Reasoning, Text, Turn
from .._updates import BlockDelta, BlockEnd, BlockKind, BlockStart, Update
from .events import (
    Ended,
    ErrorSaid,
    Event,
    ItemAdded,
    ItemDone,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    WireItem,
    WireResponse,
    error_text,
    is_call,
    read_item,
    to_items,
    to_turn,
)


class ResponsesFold:
    """State of one round. Made fresh for every attempt, so nothing of a failed one can leak into the next.

    A block begins with its first character that is not white space: vLLM puts a message "\\n\\n" between Qwen's
    reasoning and its call, and whole replies do not have it.
    """

    def __init__(self) -> None:
        self.turn: Turn | None = None
        self.error: str | None = None
        self._blocks: dict[tuple[int, str], _Block] = {}
        self._shown: list[_Block] = []
        self._streamed = _StreamedItems()

    def push(self, event: Event) -> Iterator[Update]:
        match event:
            case TextDelta(delta, output_index, part):
                yield from self._grow(output_index, f"content.{part}", Text(""), delta)
            case ReasoningDelta(delta, output_index, part):
                yield from self._grow(output_index, f"content.{part}", Reasoning(""), delta)
            case SummaryDelta(delta, output_index, part):
                yield from self._grow(output_index, f"summary.{part}", Reasoning(""), delta)
            case RefusalDelta(delta, output_index, part):
                yield from self._grow(output_index, f"content.{part}", Text("", refusal=True), delta)
            case ItemAdded(raw, output_index):
                yield from self._begin(output_index, read_item(raw))
            case ItemDone(raw, output_index):
                yield from self._complete(output_index, read_item(raw))
            case Ended(response):
                yield from self._finish(response)
            case ErrorSaid(error, message):
                self.error = error_text(error) or message or "the server reported an error without a message"
            case _:
                assert_never(event)

    def _begin(self, output_index: int, wire: WireItem) -> Iterator[Update]:
        self._streamed.add(output_index, wire)
        if is_call(wire):
            for block in self._told(output_index, wire):
                yield from self._show(block)

    def _complete(self, output_index: int, wire: WireItem) -> Iterator[Update]:
        for block in self._told(output_index, wire):
            if isinstance(block.item, FunctionCall | OtherItem):  # they have no deltas that we read
                yield from self._show(block)
            yield from self._end(block)

    def _grow(self, output_index: int, part: str, empty: Item, delta: str) -> Iterator[Update]:
        block = self._blocks.get((output_index, part))
        if block is None:
            block = self._blocks[output_index, part] = _Block(empty)
        block.pieces.append(delta)
        if block.index is None:
            if delta and not delta.isspace():
                yield from self._show(block)
        elif not block.ended:
            yield BlockDelta(block.index, _kind(block.item), delta)

    def _show(self, block: "_Block") -> Iterator[Update]:
        if block.index is not None:
            return
        block.index = len(self._shown)
        self._shown.append(block)
        kind, item = _kind(block.item), block.settled()
        yield BlockStart(block.index, kind, item.name if isinstance(item, FunctionCall) else None)
        if not isinstance(item, FunctionCall):
            yield BlockDelta(block.index, kind, "".join(block.pieces) or item.text)

    def _end(self, block: "_Block") -> Iterator[Update]:
        if block.index is not None and not block.ended:
            block.ended = True
            yield BlockEnd(block.index, _kind(block.item))

    def _told(self, output_index: int, wire: WireItem) -> "list[_Block]":
        """The blocks of an item that the server told whole."""
        self._streamed.add(output_index, wire)
        blocks = []
        for part, item in to_items(wire):
            block = self._blocks.setdefault((output_index, part), _Block(item))
            block.item = item
            blocks.append(block)
        return blocks

    def _finish(self, response: WireResponse) -> Iterator[Update]:
        seen: Counter[str] = Counter()
        for position, wire in enumerate(map(read_item, response.output or ())):
            output_index = self._streamed.place(position, wire, seen[wire.type])
            seen[wire.type] += 1
            for block in self._told(output_index, wire):
                if not _blank(block.settled()):
                    yield from self._show(block)
        for block in self._shown:
            yield from self._end(block)
        self.turn = to_turn(response, tuple(block.settled() for block in self._shown))


@dataclass(slots=True)
class _Block:
    """One block as it grows. It has no index before it has something to show."""

    item: Item
    index: int | None = None
    ended: bool = False
    pieces: list[str] = field(default_factory=list)

    def settled(self) -> Item:
        """The item as the server told it whole; as its deltas told it where the server left the text out."""
        match self.item:
            case Text(text, refusal) if not text.strip():
                return Text("".join(self.pieces) or text, refusal)
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

    def place(self, position: int, wire: WireItem, before: int) -> int:
        """Where the stream had this item, `before` of whose type the terminal event listed earlier.

        By id; older servers make new ids for the terminal event (vLLM #47916), so else by position, else by order.
        """
        if wire.id in self._places:
            return self._places[wire.id]
        if self._types.get(position, wire.type) == wire.type:
            return position
        same_type = [place for place, kind in sorted(self._types.items()) if kind == wire.type]
        return same_type[before] if before < len(same_type) else max(self._types) + 1


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
