"""The content blocks of one round as they grow: each started once, in order, and ended once.

The hooks get `Update`s.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import assert_never

import msgspec

from ._sizes import MAX_REPLY_TEXT, check_size
from ._turn import FunctionCall, HostedCall, Item, OtherItem, Reasoning, Text, shown_text
from ._updates import BlockDelta, BlockEnd, BlockKind, BlockStart, Update
from ._visible_text import VisibleText

BLOCK_SIZE = 1024
"""What a block takes besides its text."""

TOKEN_SIZE = 64
"""What a token id or a log probability takes."""

NO_INDEX = -1
"""The index of a block with no visible text yet."""


class Blocks:
    """The blocks of one attempt at a round, by the endpoint's keys.

    A block starts with its first character that is not white space: vLLM puts a message "\\n\\n" between Qwen's
    reasoning and its call, and unstreamed replies do not have it.

    `before` are the items of earlier rounds; this round continues the last of them, a text. `may_continue` leaves the
    last block open if this round is truncated too: a text, or `by_tokens` a block of any kind. `visible_text` makes the
    filter of each text and reasoning.
    """

    def __init__(
        self,
        before: Sequence[Item] = (),
        *,
        may_continue: bool = False,
        by_tokens: bool = False,
        visible_text: Callable[[], VisibleText] | None = None,
    ) -> None:
        self._may_continue = may_continue
        self._by_tokens = may_continue and by_tokens
        self._visible_text = visible_text
        self._by_key: dict[Hashable, _Block] = {}
        self._visible = [_Block(item, index, ended=True) for index, item in enumerate(before)]
        self._continued = _reopen(self._visible[-1]) if before else None
        self._pending_end: _Block | None = None
        self.discarded = False
        """Whether a visible block was removed: the indexes that the hooks have seen are no longer right."""
        self._size = 0

    @property
    def items(self) -> tuple[Item, ...]:
        """The items of all started blocks, in block order."""
        return tuple(block.final for block in self._visible)

    def replay(self) -> Iterator[Update]:
        """The earlier rounds again, for hooks that discarded them after `llm:stream_aborted`."""
        for block in self._visible:
            yield from _start(block)
            if block.ended:
                yield BlockEnd(block.index, block.kind)

    def catch_up(self, seen: Sequence[Item]) -> list[Update] | None:
        """What hooks lack that have seen these items, the last of them still open; None if they saw something else."""
        last = max(0, len(seen) - 1)
        if len(seen) > len(self._visible) or not all(map(_Block.extends, self._visible, seen)):
            return None
        updates: list[Update] = []
        for block, item in zip_longest(self._visible[last:], seen[last:]):
            updates += _start(block) if item is None else _rest(block, item)
            updates += [BlockEnd(block.index, block.kind)] if block.ended else []
        return updates

    def grow(self, key: Hashable, empty: Item, delta: str) -> Iterator[Update]:
        """Add a delta to a block; `empty` is the item of a new block."""
        block = self._by_key.get(key) or self._new(key, empty)
        self.add_size(len(delta))
        return self._add(block, delta if block.filter is None else block.filter.push(delta))

    def announce(self, key: Hashable, call: FunctionCall) -> Iterator[Update]:
        """Start the block of a call whose arguments have not arrived."""
        yield from self._show(self._set_item(key, msgspec.structs.replace(call, complete=False)))

    def complete(self, key: Hashable, item: Item, *, last: bool = False) -> Iterator[Update]:
        """End a block with the server's full copy of its item; `last`: the copy comes from the terminal event."""
        block = self._set_item(key, item)
        yield from self._flush(block)
        # We read no deltas of calls and of unconverted kinds: their full copy is the first content to show.
        if (last and not block.blank) or isinstance(item, FunctionCall | HostedCall | OtherItem):
            yield from self._show(block)
        yield from self._end(block)

    def item(self, key: Hashable) -> Item | None:
        """The item of a block, as far as it has arrived."""
        block = self._by_key.get(key)
        return None if block is None else block.final

    def discard(self, keys: Collection[Hashable]) -> None:
        """Remove blocks that the reply does not have. Hooks that have seen them need all blocks again."""
        indexes = {self._by_key.pop(key).index for key in keys}
        if indexes:
            self._visible = [block for block in self._visible if block.index not in indexes]
            self.discarded = True

    def end(self, *, truncated: bool) -> Iterator[Update]:
        """End every block except a text that the next round may continue."""
        for block in self._by_key.values():
            yield from self._flush(block)
        for block in self._visible:
            yield from self._end(block)
        if not (self._may_continue and truncated):
            yield from self.close()

    def close(self) -> Iterator[Update]:
        """End the text that was left open, for a reply that is not continued."""
        yield from self._defer_end(None)

    def _add(self, block: "_Block", delta: str) -> Iterator[Update]:
        block.pieces.append(delta)
        if block.index == NO_INDEX:
            if delta and not delta.isspace():
                yield from self._show(block)
        elif delta and not block.ended and block is not self._pending_end:
            yield BlockDelta(block.index, block.kind, delta)

    def _flush(self, block: "_Block") -> Iterator[Update]:
        """Show what the filter still holds back of a complete text."""
        if block.filter is not None and (rest := block.filter.end()):
            yield from self._add(block, rest)

    def _set_item(self, key: Hashable, item: Item) -> "_Block":
        block = self._by_key.get(key) or self._new(key, item)
        self.add_size(_length(item))
        # vLLM's reasoning parsers take a continued text for reasoning: they do not see where the reasoning ended.
        block.item = Text(item.text) if block.earlier_text and isinstance(item, Reasoning) else item
        return block

    def _new(self, key: Hashable, item: Item) -> "_Block":
        """A block of this round; the first text or reasoning continues the text that the last round left open."""
        block = _Block(item)
        self.add_size(BLOCK_SIZE)
        if self._continued is not None and isinstance(item, Text | Reasoning):
            block, self._continued = self._continued, None
        if self._visible_text is not None and isinstance(item, Text | Reasoning):
            block.filter = self._visible_text()
        self._by_key[key] = block
        return block

    def add_size(self, size: int) -> None:
        """Count what a reply takes, here or in its fold. Raises `RefusedBodyError` beyond the limit."""
        self._size += size
        check_size(self._size, MAX_REPLY_TEXT, "a streamed reply")

    def _show(self, block: "_Block") -> Iterator[Update]:
        if block.index != NO_INDEX:
            return
        yield from self._defer_end(None)
        block.index = len(self._visible)
        self._visible.append(block)
        yield from _start(block)

    def _end(self, block: "_Block") -> Iterator[Update]:
        if block.index == NO_INDEX or block.ended:
            return
        yield from _undelivered_rest(block)
        # Only the last block may go on. The server may send the same item twice.
        last = block is self._visible[-1]
        if last and (self._by_tokens or isinstance(block.item, Text) or block is self._pending_end):
            yield from self._defer_end(block)
        else:
            block.ended = True
            yield BlockEnd(block.index, block.kind)

    def _defer_end(self, block: "_Block | None") -> Iterator[Update]:
        """Defer the end of a text until another block follows: a truncated reply continues in its last text."""
        pending, self._pending_end = self._pending_end, block
        if pending is not None and pending is not block:
            pending.ended = True
            yield BlockEnd(pending.index, pending.kind)


def to_updates(items: Sequence[Item]) -> Iterator[Update]:
    """The updates of a complete reply, as if it had been streamed."""
    for index, item in enumerate(items):
        block = _Block(item, index)
        yield from _start(block)
        yield BlockEnd(index, block.kind)


@dataclass(slots=True)
class _Block:
    """One block as it grows. It gets its index with its first visible text."""

    item: Item
    index: int = NO_INDEX
    ended: bool = False
    pieces: list[str] = field(default_factory=list[str])
    """The deltas, as far as they are visible."""
    filter: VisibleText | None = None
    earlier_text: str = ""
    """The part of a text from earlier rounds."""

    @property
    def kind(self) -> BlockKind:
        match self.item:
            case Reasoning() | HostedCall():
                return "thinking"
            case FunctionCall():
                return "tool_use"
            case Text() | OtherItem():
                return "text"
            case _:
                assert_never(self.item)

    @property
    def final(self) -> Item:
        """The final item: the server's full copy, or the joined deltas if that copy is empty."""
        match self.item:
            case Text(text, refusal):
                raw = text if text.strip() else self._joined or text
                visible = self.visible(raw)
                return Text(self.earlier_text + visible, refusal, raw=None if visible == raw else raw)
            case Reasoning(text):
                return Reasoning(self.visible(text if text.strip() else self._joined or text))
            case item:
                return item

    @property
    def _joined(self) -> str:
        return "".join(self.pieces if self.filter is None else self.filter.raw)

    @property
    def shown(self) -> str:
        """What hooks get of it: of a call the name, of a text not what its filter holds back."""
        item = self.item
        return item.name if isinstance(item, FunctionCall) else self.earlier_text + "".join(self.pieces) or item.text

    def extends(self, seen: Item) -> bool:
        """Whether hooks that have seen this item can be shown the rest of the block."""
        return type(self.item) is type(seen) and self.shown.startswith(shown_text(seen))

    def visible(self, text: str) -> str:
        return text if self.filter is None else self.filter.of(text)

    @property
    def blank(self) -> bool:
        item = self.final
        return isinstance(item, Text | Reasoning) and not item.text.strip()


def _length(item: Item) -> int:
    match item:
        case FunctionCall():
            return len(item.arguments)
        case HostedCall():
            return len(item.arguments) + len(item.output)
        case _:
            return len(item.text)


def _reopen(block: _Block) -> _Block:
    if isinstance(block.item, Text):
        block.earlier_text, block.item, block.ended = block.item.text, Text("", block.item.refusal), False
    return block


def _start(block: _Block) -> Iterator[Update]:
    item = block.final
    yield BlockStart(block.index, block.kind, item.name if isinstance(item, FunctionCall) else None)
    if not isinstance(item, FunctionCall):
        yield BlockDelta(block.index, block.kind, block.earlier_text + "".join(block.pieces) or item.text)


def _rest(block: _Block, seen: Item) -> list[Update]:
    """The text of a block after what hooks have seen of it; they see no arguments."""
    rest = "" if block.kind == "tool_use" else block.shown[len(shown_text(seen)) :]
    return [BlockDelta(block.index, block.kind, rest)] if rest else []


def _undelivered_rest(block: _Block) -> Iterator[Update]:
    """The rest of a continued text, if the server sent it without deltas."""
    if block.earlier_text and not block.pieces and isinstance(block.item, Text) and block.item.text:
        block.pieces.append(block.visible(block.item.text))
        yield BlockDelta(block.index, "text", block.pieces[0])
