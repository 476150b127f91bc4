"""What a streaming UI needs to know, in the words of Amplifier's streaming contract."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["text", "thinking", "tool_use"]


@dataclass(frozen=True, slots=True)
class BlockStart:
    index: int
    kind: BlockKind
    name: str | None = None
    """The tool's name, for a `tool_use` block."""


@dataclass(frozen=True, slots=True)
class BlockDelta:
    index: int
    kind: BlockKind
    text: str


@dataclass(frozen=True, slots=True)
class BlockEnd:
    index: int
    kind: BlockKind


Update = BlockStart | BlockDelta | BlockEnd


def merged(updates: Iterable[Update]) -> Iterator[Update]:
    """Join the deltas of one block that follow each other, so that one read costs one hook call a block.

    A hook call costs the kernel 80 to 140 µs, more than all that this provider does with a token.
    """
    texts: list[str] = []
    last: BlockDelta | None = None
    for update in updates:
        if isinstance(update, BlockDelta) and (last is None or last.index == update.index):
            last = update
            texts.append(update.text)
            continue
        if last is not None:
            yield BlockDelta(last.index, last.kind, "".join(texts))
            texts, last = [], None
        if isinstance(update, BlockDelta):
            last, texts = update, [update.text]
        else:
            yield update
    if last is not None:
        yield BlockDelta(last.index, last.kind, "".join(texts))
