"""Fold the events of one /v1/responses round into updates for the hooks and a final Turn."""

from collections import defaultdict, deque
from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, assert_never

import msgspec

from .._blocks import Blocks
from .._failure import Failure
from .._surrogates import Halves
from .._turn import FunctionCall, HostedCall, Item, Reasoning, Text, Turn
from .._updates import Update
from .events import (
    Delta,
    ErrorEvent,
    Event,
    ItemAdded,
    ItemDone,
    ReasoningDelta,
    RefusalDelta,
    SplitDelta,
    SummaryDelta,
    TerminalEvent,
    TextDelta,
)
from .hosted import LISTING, to_listing
from .items import WireItem, to_items, to_logprobs, to_turn

MAX_NAME: Final = 128
"""Characters of a tool's name that are compared: no tool has a longer one, and each `-` in it costs a comparison."""


class ResponsesFold:
    """State of one attempt at a round, new for each, so that nothing of a failed one leaks into the next."""

    def __init__(self, blocks: Blocks, hosted_labels: Collection[str] = ()) -> None:
        self.turn: Turn | None = None
        self.failure: Failure | None = None
        self._blocks = blocks
        self._indexes = _ItemIndexes()
        self._hosted_labels = set(hosted_labels)
        """The labels of the server's MCP servers: those of the request, and those that list their tools."""
        self._unavailable: dict[str, str] = {}
        self._thoughts: dict[int, type[Delta]] = {}
        """The kind of reasoning deltas that came first for an item: its content and its summary are one thought."""
        self._halves = Halves()

    def push_all(self, events: Iterable[Event]) -> Iterator[Update]:
        """The updates of all the events of one read, with consecutive deltas joined."""
        for event in join_deltas(events):
            yield from self.push(event)

    def push(self, event: Event) -> Iterator[Update]:
        """The updates of one event. Events after the terminal one are ignored."""
        if self.turn is not None:
            return
        match event:
            case TextDelta(delta, output_index, part):
                yield from self._blocks.grow((output_index, f"content.{part}"), Text(""), delta)
            case ReasoningDelta(delta, output_index, part) | SummaryDelta(delta, output_index, part):
                if self._thoughts.setdefault(output_index, type(event)) is type(event):
                    yield from self._blocks.grow((output_index, f"reasoning.{part}"), Reasoning(""), delta)
            case RefusalDelta(delta, output_index, part):
                yield from self._blocks.grow((output_index, f"content.{part}"), Text("", refusal=True), delta)
            case SplitDelta(delta=split):
                whole = self._halves.join((type(split), split.output_index, split.part), split.delta)
                yield from self.push(msgspec.structs.replace(split, delta=whole)) if whole else ()
            case ItemAdded(item, output_index):
                yield from self._announce(output_index, item)
            case ItemDone(item, output_index):
                yield from self._complete(output_index, item)
            case TerminalEvent():
                yield from self._finish(event)
            case ErrorEvent(failure):
                self.failure = failure
            case _:
                assert_never(event)

    def end(self) -> Iterator[Update]:
        """Nothing: a stream without its terminal event is not complete."""
        return iter(())

    def settle(self) -> Iterator[Update]:
        """Nothing: the server holds nothing back."""
        return iter(())

    def _announce(self, output_index: int, wire: WireItem) -> Iterator[Update]:
        self._indexes.add(output_index, wire)
        for part, item in self._items(wire):
            # A call under an unknown name may turn out to be one that the server runs.
            if isinstance(item, FunctionCall) and not item.unrecognised:
                yield from self._blocks.announce((output_index, part), item)

    def _complete(self, output_index: int, wire: WireItem, *, last: bool = False) -> Iterator[Update]:
        self._indexes.add(output_index, wire)
        for part, item in self._items(wire):
            yield from self._blocks.complete((output_index, part), item, last=last)

    def _items(self, wire: WireItem) -> Sequence[tuple[str, Item]]:
        if wire.type == LISTING:
            listing = to_listing(wire.fields)
            self._hosted_labels.add(listing.server)
            if listing.failure is not None:
                self._unavailable[listing.server] = listing.failure
        return to_items(wire, self._hosted_labels)

    def _finish(self, event: TerminalEvent) -> Iterator[Update]:
        for position, wire in enumerate(event.output):
            yield from self._complete(self._indexes.match(position, wire), wire, last=True)
        ending = to_turn(event.response, event.raw)
        self._blocks.discard(self._twins())
        yield from self._blocks.end(truncated=ending.truncated)
        self.turn = replace(
            ending,
            items=self._blocks.items,
            unavailable=tuple(self._unavailable.items()),
            logprobs=to_logprobs(event.output),
        )

    def _twins(self) -> list[Hashable]:
        """The keys of streamed calls that the server has run as well.

        LiteLLM streams a call that it runs as a `function_call` too, which its terminal event does not have.
        """
        hosted = {(item.tool, item.arguments) for item in self._blocks.items if isinstance(item, HostedCall)}
        if not hosted:
            return []
        keys: list[Hashable] = [(output_index, "call") for output_index in self._indexes.unmatched("function_call")]
        return [key for key in keys if _is_twin(self._blocks.item(key), hosted)]


def join_deltas(events: Iterable[Event]) -> Iterator[Event]:
    """The same events, with consecutive deltas of one part joined.

    A hook call costs the kernel 80 to 140 µs, more than this provider spends on a token.
    """
    last: Event | None = None
    texts: list[str] = []
    for event in events:
        if isinstance(event, Delta) and isinstance(last, Delta) and event.continues(last):
            texts.append(event.delta)
            continue
        if last is not None:
            yield _with_more_text(last, texts)
        last, texts = event, []
    if last is not None:
        yield _with_more_text(last, texts)


def _with_more_text(event: Event, texts: list[str]) -> Event:
    """The event; if it is a delta, with the text of the deltas after it."""
    if isinstance(event, Delta) and texts:
        return msgspec.structs.replace(event, delta=event.delta + "".join(texts))
    return event


def _is_twin(call: Item | None, hosted: Container[tuple[str, str]]) -> bool:
    """Whether a call is that of a hosted tool; LiteLLM writes its server before its name."""
    if not isinstance(call, FunctionCall):
        return False
    parts = call.name[:MAX_NAME].split("-")
    return any(("-".join(parts[n:]), call.arguments) in hosted for n in range(len(parts)))


class _ItemIndexes:
    """The output indexes of the streamed items, to match the terminal event's copies with them."""

    def __init__(self) -> None:
        self.matched: set[int] = set()
        self._types: dict[int, str] = {}
        self._by_id: dict[str | int, int] = {}
        self._highest: int | None = None
        self._unmatched: dict[str, deque[int]] | None = None

    def add(self, output_index: int, wire: WireItem) -> None:
        self._types.setdefault(output_index, wire.type)
        self._highest = output_index if self._highest is None else max(self._highest, output_index)
        if wire.id is not None:
            self._by_id.setdefault(wire.id, output_index)

    def unmatched(self, kind: str) -> list[int]:
        return [index for index, each in self._types.items() if each == kind and index not in self.matched]

    def match(self, position: int, wire: WireItem) -> int:
        """The streamed index of an item of the terminal event; never that of an item before it."""
        output_index = self._index_of(position, wire)
        self.matched.add(output_index)
        return output_index

    def _index_of(self, position: int, wire: WireItem) -> int:
        """By id; older servers generate new ids for the terminal event (vLLM #47916), so else by position, or order."""
        by_id = None if wire.id is None else self._by_id.get(wire.id)
        if by_id is not None and by_id not in self.matched:
            return by_id
        if position not in self.matched and self._types.get(position, wire.type) == wire.type:
            return position
        first = self._first_unmatched(wire.type)
        if first is not None:
            return first
        return (position if self._highest is None else self._highest) + 1

    def _first_unmatched(self, kind: str) -> int | None:
        if self._unmatched is None:
            self._unmatched = defaultdict(deque)
            for output_index, each in sorted(self._types.items()):
                self._unmatched[each].append(output_index)
        streamed = self._unmatched[kind]
        while streamed and streamed[0] in self.matched:
            streamed.popleft()
        return streamed[0] if streamed else None
