"""Feed a parser of raw output, and join its pieces to the blocks that a reader sees."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from amplifier_module_provider_vllm._markup.pieces import Piece, ReplyParser
from amplifier_module_provider_vllm._turn import FunctionCall, Item

Part = tuple[str, Sequence[int]]
"""A part of a reply: its text and its token ids."""


def parse(parser: ReplyParser, parts: Iterable[Part]) -> list[Item]:
    """The blocks of a reply that is read in these parts."""
    pieces = [piece for part in parts for piece in parser.push(*part)]
    return to_blocks([*pieces, *parser.end()])


def to_blocks(pieces: Iterable[Piece]) -> list[Item]:
    """The blocks, each with all of its text. A call that has not ended is not complete."""
    blocks: list[Item] = []
    ended = True
    for piece in pieces:
        if piece.key == len(blocks):
            assert ended or not isinstance(blocks[-1], FunctionCall)
            blocks.append(piece.item)
        else:
            assert piece.key == len(blocks) - 1
            assert not ended
            assert type(piece.item) is type(blocks[-1])
        ended = piece.ended
        blocks[-1] = _grown(blocks[-1], piece)
    return blocks


def chunks(text: str, cuts: Iterable[int]) -> list[Part]:
    """The text, cut at these places."""
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [(text[start:end], ()) for start, end in pairwise(places)]


def _grown(item: Item, piece: Piece) -> Item:
    if isinstance(item, FunctionCall):
        return msgspec.structs.replace(item, arguments=item.arguments + piece.delta, complete=piece.ended)
    return msgspec.structs.replace(item, text=item.text + piece.delta)
