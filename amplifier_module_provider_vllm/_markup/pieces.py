"""Piece, what a parser of raw model output reads of it, and the interface of such a parser."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from .._turn import FunctionCall, Reasoning, Text


class Piece(msgspec.Struct, frozen=True):
    """A part of one block. The blocks of a reply do not interleave."""

    key: int
    """The number of the block, counted from 0 as blocks begin."""
    item: Reasoning | Text | FunctionCall
    """The kind of the block, empty; a call has its name."""
    delta: str
    """New text, or new text of a call's arguments."""
    ended: bool = False
    """Whether the block is complete. A call never is if its markup is cut off before its arguments end."""


class ReplyParser(Protocol):
    """Reads a reply as the model sampled it, in parts of any size: the result does not depend on where they are cut."""

    reasoning_tokens: int
    """The tokens of the reasoning so far; 0 if no ids were pushed."""

    def push(self, text: str, ids: Sequence[int]) -> Iterator[Piece]:
        """The next part. It is read as the iterator runs."""
        ...

    def end(self) -> Iterator[Piece]:
        """What was held back, at the end of the reply."""
        ...
