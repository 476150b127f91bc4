"""The chunks of a /v1/completions stream, as types: the text and the token ids of the first choice."""

from typing import Any

import msgspec

from .._failure import Failure, read_failure
from .._strict_json import Json, wire_value
from .._surrogates import fields_with_surrogates, read_fields
from .._wire.sse import DONE, MAX_PING_BYTES, Frame


class _Wire(msgspec.Struct, frozen=True, gc=False):
    """A wire type: unknown fields are ignored, and a server may send null for any field with a default.

    The garbage collector skips it.
    """


class WireLogprobs(_Wire, frozen=True):
    """The log probabilities of a choice, one entry per token; those of an echoed prompt come first."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    """None: the first token of an echoed prompt."""
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(_Wire, frozen=True):
    text: str | None = None
    index: int | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    """In the first chunk."""
    logprobs: Any = None
    """Of the form `WireLogprobs`. An odd one must not cost the reply."""
    finish_reason: str | None = None


class Chunk(_Wire, frozen=True):
    """A chunk of a stream, or an unstreamed reply."""

    choices: list[Choice] | None = None
    id: str | int | None = None
    model: str | None = None
    object: str | None = None
    usage: Any = None
    """Read leniently: an odd count must not cost the reply."""
    error: Any = None
    is_split: bool = msgspec.field(name=" is_split", default=False)
    """Whether the text has a lone surrogate: a gateway that cuts strings in UTF-16 sent a character in two chunks."""

    @property
    def choice(self) -> Choice | None:
        """The first choice, the only one that is read."""
        choices = self.choices
        if choices and not choices[0].index:  # every chunk of a reply with one choice: a generator takes 0.2 µs
            return choices[0]
        return next((choice for choice in choices or () if not choice.index), None)


class Done(_Wire, frozen=True):
    """The end of a stream, which says nothing of how the reply ended."""


class WholeReply(_Wire, frozen=True):
    """An unstreamed reply."""

    chunk: Chunk
    raw: bytes
    """The server's raw JSON."""


class ErrorEvent(_Wire, frozen=True):
    """An error in a stream, or in place of an unstreamed reply."""

    failure: Failure


Event = Chunk | Done | WholeReply | ErrorEvent

_chunk = msgspec.json.Decoder(Chunk)


def decode_event(frame: Frame) -> Event:
    """Raises `msgspec.DecodeError` for invalid data."""
    return Done() if frame.data == DONE else _decode(frame.data)


def decode_reply(body: bytes) -> Event:
    """An unstreamed reply as a single event; `{"error": …}` with status 200 is an `ErrorEvent`."""
    event = _decode(body)
    return WholeReply(event, body) if isinstance(event, Chunk) else event


def is_last(event: Event) -> bool:
    """Whether the event is the terminal one. The usage comes after the chunk with the finish reason."""
    return isinstance(event, (Done, WholeReply))  # a union takes 0.2 µs


def is_progress(frame: Frame) -> bool:
    """Whether an event belongs to the reply; a gateway's ping does not."""
    data = frame.data
    return b'"choices"' in data or b'"error"' in data or data == DONE or len(data) > MAX_PING_BYTES


def _decode(data: bytes) -> Chunk | ErrorEvent:
    try:
        chunk = _chunk.decode(data)
    except msgspec.DecodeError as error:
        chunk = _split(fields_with_surrogates(data, error))
    # Older vLLM sends {"object": "error", "message": …}.
    if chunk.error is not None or chunk.object == "error":
        return ErrorEvent(read_failure(read_fields(data)))
    return chunk


def _split(fields: dict[str, Json]) -> Chunk:
    """The chunk with half a character in its text, and no other lone surrogate."""
    chunk, raw = msgspec.convert(wire_value(fields), Chunk), msgspec.convert(fields, Chunk)
    pairs = zip(chunk.choices or (), raw.choices or (), strict=True)
    choices = [msgspec.structs.replace(choice, text=halved.text) for choice, halved in pairs]
    return msgspec.structs.replace(chunk, choices=choices, is_split=True)
