"""What a streaming UI needs to know, in the words of Amplifier's streaming contract."""

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
