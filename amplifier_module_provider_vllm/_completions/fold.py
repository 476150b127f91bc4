"""Fold the chunks of one /v1/completions round into updates for the hooks and a final Turn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, assert_never

from .._ask import Ask
from .._blocks import TOKEN_SIZE, Blocks
from .._errors import other_prompt
from .._failure import Failure
from .._markup.pieces import Piece, ReplyParser
from .._markup.reply_parser import reply_parser
from .._reply_values import FINISH_FAILURES, chat_usage
from .._surrogates import Halves
from .._turn import FunctionCall, Text, Turn
from .._updates import Update
from .events import Chunk, Done, ErrorEvent, Event, WholeReply
from .turn import Ending

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

NO_IDS: Final = Failure(
    "the server sent no token ids, from which a reply of gpt-oss is read at /v1/completions: set `endpoint: chat`", 501
)


class CompletionsFold:
    """State of one attempt at a round, new for each, so that nothing of a failed one leaks into the next.

    If the round continues a reply by its token ids, the blocks hold that reply from the start.
    """

    def __init__(self, blocks: Blocks, ask: Ask, encoding: "HarmonyEncoding | None") -> None:
        self.turn: Turn | None = None
        self.failure: Failure | None = None
        self._blocks = blocks
        self._ask = ask
        self._ending = Ending()
        self._halves = Halves()
        self._raw: bytes | None = None
        self._ended = False
        self._calls: dict[int, _Call] = {}
        self._earlier_calls = [item.call_id for item in ask.reply if isinstance(item, FunctionCall)]
        self._parser = _parser(ask, encoding)
        self._continued = ask.tokens.sent if ask.tokens is not None and ask.is_exact else None
        """The token ids that the reply goes on after, if it continues another."""
        if ask.tokens is not None and ask.tokens.reply:
            for _ in self._show(self._parser.push(ask.tokens.reply_text or "", ask.tokens.reply)):
                pass  # hooks have seen it
        self._earlier_reasoning = self._parser.reasoning_tokens

    def push_all(self, events: Iterable[Event]) -> Iterator[Update]:
        """The updates of all the events of one read, with consecutive pieces of a block joined."""
        if self.turn is None:
            yield from self._show(self._pieces(events))
        if self._ended:
            yield from self.end()

    def end(self) -> Iterator[Update]:
        """Finish a reply whose finish reason has arrived: not every server ends its streams with `[DONE]`."""
        if self.turn is None and self.failure is None and self._ending.finish_reason is not None:
            yield from self._finish()

    def settle(self) -> Iterator[Update]:
        yield from self._show(self._parser.end())
        yield from self._blocks.close()
        if self.turn is not None:
            self.turn = replace(self.turn, items=self._blocks.items)

    def _pieces(self, events: Iterable[Event]) -> Iterator[Piece]:
        for text, ids in join_parts(self._parts(events)):
            self._blocks.add_size(TOKEN_SIZE * len(ids))
            yield from self._parser.push(text, ids)

    def _parts(self, events: Iterable[Event]) -> Iterator[tuple[str, Sequence[int]]]:
        """Text and token ids up to the terminal event; the rest of the events is kept here."""
        for event in events:
            if self._ended or self.failure is not None:
                return
            match event:
                case Chunk():
                    yield self._read(event)
                case Done():
                    self._ended = True
                case WholeReply(chunk, raw):
                    self._raw, self._ended = raw, True
                    yield self._read(chunk)
                    # An unstreamed reply is complete by its form.
                    self._ending.finish_reason = self._ending.finish_reason or "stop"
                case ErrorEvent(failure):
                    self.failure = failure
                case _:
                    assert_never(event)

    def _read(self, chunk: Chunk) -> tuple[str, Sequence[int]]:
        ending, choice = self._ending, chunk.choice
        ending.add_head(chunk)
        if choice is None:
            return "", ()
        if choice.prompt_token_ids is not None:
            self._check_prompt(choice.prompt_token_ids)
        if added := ending.add_choice(choice, self._ask.options.asked_logprobs):
            self._blocks.add_size(TOKEN_SIZE * added)
        text = choice.text or ""
        if chunk.is_split:
            text = self._halves.join("text", text)
        ending.texts.append(text)
        return text, choice.token_ids or ()

    def _show(self, pieces: Iterable[Piece]) -> Iterator[Update]:
        for piece in join_pieces(pieces):
            if isinstance(piece.item, FunctionCall):
                yield from self._show_call(piece, piece.item.name)
                continue
            if piece.delta:
                yield from self._blocks.grow(piece.key, piece.item, piece.delta)
            if piece.ended:
                yield from self._blocks.complete(piece.key, piece.item)

    def _show_call(self, piece: Piece, name: str) -> Iterator[Update]:
        """Announce a call with its name, and complete it with its arguments."""
        call = self._calls.get(piece.key)
        if call is None:
            call = self._calls[piece.key] = _Call(self._next_call_id(), name)
            yield from self._blocks.announce(piece.key, call.item)
        call.arguments.append(piece.delta)
        self._blocks.add_size(len(piece.delta))
        if piece.ended:
            call.ended = True
            yield from self._blocks.complete(piece.key, call.item)

    def _next_call_id(self) -> str:
        """An id by the call's place in the reply, the same in every round; else by that in the history."""
        number, response_id = len(self._calls), self._ending.response_id
        if number < len(self._earlier_calls):
            return self._earlier_calls[number]
        return f"call_{len(self._ask.prompt.items) if response_id is None else response_id}_{number}"

    def _finish(self) -> Iterator[Update]:
        ending, options = self._ending, self._ask.options
        self.failure = FINISH_FAILURES.get(ending.finish_reason or "")
        if ending.texts and not ending.sampled and options.family.rendering == "harmony" and not options.raw_prompt:
            self.failure = NO_IDS
        if self.failure is not None:
            return
        if ending.prompt is None:
            self._check_prompt_length()
        truncated = ending.finish_reason == "length"
        if not (truncated and self._ask.wants_tokens):  # else the next round reads what is held back
            yield from self._show(self._parser.end())
        for key, call in self._calls.items():
            if not call.ended:
                yield from self._blocks.complete(key, call.item)
        yield from self._blocks.end(truncated=truncated)
        reasoning_tokens = self._parser.reasoning_tokens - self._earlier_reasoning
        self.turn = ending.to_turn(self._blocks.items, self._ask, reasoning_tokens, self._raw)

    def _check_prompt(self, told: Sequence[int]) -> None:
        """Raise `InvalidRequestError` if a reply goes on after other tokens than it has."""
        if self._continued not in (None, tuple(told)):
            raise other_prompt(self._ask.options.model)

    def _check_prompt_length(self) -> None:
        """Raise `InvalidRequestError` if a reply goes on after another number of tokens than it has."""
        usage = chat_usage(self._ending.usage)
        if self._continued is not None and (usage is None or usage.input_tokens != len(self._continued)):
            raise other_prompt(self._ask.options.model)


def join_parts(parts: Iterable[tuple[str, Sequence[int]]]) -> Iterator[tuple[str, Sequence[int]]]:
    """The same parts, with consecutive ones joined where no tag begins or ends.

    A parser counts the tokens of a part that a tag divides by its text.
    """
    texts: list[str] = []
    joined: list[int] = []
    for text, ids in parts:
        if "<" in text or ">" in text or "[" in text or "]" in text:
            if texts:
                yield "".join(texts), joined
                texts, joined = [], []
            yield text, ids
        elif text or ids:
            texts.append(text)
            joined += ids
    if texts:
        yield "".join(texts), joined


def join_pieces(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same pieces, with consecutive ones of one block joined: a hook call costs 80 to 140 µs."""
    last: Piece | None = None
    deltas: list[str] = []
    for piece in pieces:
        if last is not None and piece.key != last.key:
            yield Piece(last.key, last.item, "".join(deltas), last.ended)
            deltas = []
        last = piece
        deltas.append(piece.delta)
    if last is not None:
        yield Piece(last.key, last.item, "".join(deltas), last.ended)


@dataclass(slots=True)
class _Call:
    """A call as it grows."""

    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])
    ended: bool = False

    @property
    def item(self) -> FunctionCall:
        """Nobody has compared its name with those of the tools yet."""
        arguments = "".join(self.arguments)
        return FunctionCall(self.call_id, self.name, arguments, unrecognised=True, complete=self.ended)


class _RawText:
    """The parser of a reply to a raw prompt: all of it is one text."""

    reasoning_tokens = 0

    def push(self, text: str, _ids: Sequence[int], /) -> Iterator[Piece]:
        yield Piece(0, Text(""), text)

    def end(self) -> Iterator[Piece]:
        return iter(())


def _parser(ask: Ask, encoding: "HarmonyEncoding | None") -> "ReplyParser | _RawText":
    if ask.options.raw_prompt:
        return _RawText()
    in_reasoning = ask.tokens is not None and ask.tokens.in_reasoning is True
    return reply_parser(ask.options.family, encoding, in_reasoning=in_reasoning, calls=bool(ask.functions))
