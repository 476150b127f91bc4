"""What hooks are told of a content block: its start, each delta, its end, after Amplifier's streaming contract."""

from typing import Literal

import msgspec

BlockKind = Literal["text", "thinking", "tool_use"]


class BlockStart(msgspec.Struct, frozen=True):
    index: int
    kind: BlockKind
    name: str | None = None
    """The tool's name, for a `tool_use` block."""


class BlockDelta(msgspec.Struct, frozen=True):
    index: int
    kind: BlockKind
    text: str


class BlockEnd(msgspec.Struct, frozen=True):
    index: int
    kind: BlockKind


Update = BlockStart | BlockDelta | BlockEnd
