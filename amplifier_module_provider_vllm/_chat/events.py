"""The events of a chat completion: its chunks, an unstreamed reply in the form of one, its end and its errors."""

from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import msgspec

from .._failure import Failure, read_failure
from .._reply_values import read_logprobs
from .._strict_json import Json, wire_value
from .._surrogates import fields_with_surrogates, read_fields
from .._turn import TokenLogprob
from .._wire.sse import DONE, MAX_PING_BYTES, Frame
from .wire import (
    CallDelta,
    Delta,
    TypedChunk,
    Wire,
    WireChoice,
    WireChunk,
    WireLogprobs,
    WireMessage,
    policy_version,
    to_deltas,
)


class Chunk(Wire, frozen=True):
    """What one chunk adds to the first choice, and what it tells of the whole reply."""

    deltas: Sequence[Delta] = ()
    finish_reason: str | None = None
    stop_reason: Any = None
    sampled: Sequence[int] | None = None
    """The token ids of this chunk."""
    logprobs: Sequence[TokenLogprob] | None = None
    usage: Any = None
    prompt: Sequence[int] | None = None
    """The token ids of the prompt."""
    response_id: str | int | None = None
    model: str | None = None
    policy_version: str | None = None
    """The version of the weights."""
    is_split: bool = False
    """Whether the deltas may have lone surrogates: a gateway that cuts strings in UTF-16 sent a character in two."""


class WholeReply(Wire, frozen=True):
    """An unstreamed reply."""

    chunk: Chunk
    raw: bytes


class Done(Wire, frozen=True):
    """The end of a stream, which says nothing of how the reply ended."""


class ErrorEvent(Wire, frozen=True):
    """An error in a stream, or in place of an unstreamed reply."""

    failure: Failure


Event = Chunk | WholeReply | Done | ErrorEvent

_typed = msgspec.json.Decoder(TypedChunk)
_chunk = msgspec.json.Decoder(WireChunk)
_nothing: Final = WireChoice()


def decode_event(frame: Frame) -> Event | None:
    """The event, or None for one that we do not read. Raises `msgspec.DecodeError` for invalid data."""
    data = frame.data
    if data == DONE:
        return Done()
    try:
        wire = _decode(data)
    except msgspec.DecodeError as error:
        return _decode_split(fields_with_surrogates(data, error))
    if wire.error or (wire.choices is None and wire.usage is None):
        return _decode_other(read_fields(data))
    return _to_event(wire)


def decode_reply(body: bytes) -> Event:
    """An unstreamed reply as a single event; `{"error": …}` with status 200 is an `ErrorEvent`."""
    try:
        wire = _decode(body)
    except msgspec.DecodeError as error:
        wire = msgspec.convert(wire_value(fields_with_surrogates(body, error)), WireChunk)
    if wire.error or wire.choices is None:
        found = _decode_other(read_fields(body))
        if found is not None:
            return found
    event = _to_event(wire, whole=True)
    return WholeReply(event, body) if isinstance(event, Chunk) else event


def is_progress(frame: Frame) -> bool:
    """Whether an event belongs to the reply; a gateway's ping does not."""
    data = frame.data
    return b'"choices"' in data or b'"error"' in data or data == DONE or len(data) > MAX_PING_BYTES


def is_last(event: Event) -> bool:
    """Whether the event is the terminal one."""
    return isinstance(event, (Done, WholeReply))  # a union takes 0.2 µs


def _decode(data: bytes) -> WireChunk:
    """Raises `msgspec.DecodeError` for what is no chunk."""
    try:
        return _typed.decode(data)
    except msgspec.ValidationError:  # perhaps only of the log probabilities
        return _chunk.decode(data)


def _decode_split(fields: dict[str, Json]) -> Event | None:
    event = _to_event(msgspec.convert(wire_value(fields), WireChunk))
    try:
        split = _to_event(msgspec.convert(fields, WireChunk))
    except UnicodeEncodeError:  # a key has half a character too
        return event
    if isinstance(event, Chunk) and isinstance(split, Chunk):
        return msgspec.structs.replace(event, deltas=split.deltas, is_split=True)
    return event


def _decode_other(fields: dict[str, Json]) -> ErrorEvent | None:
    """The error in data that is no chunk; None for a ping. Older vLLM sends `{"object": "error", "message": …}`."""
    is_error = fields.get("error") or fields.keys() & {"message", "detail"} or fields.get("object") == "error"
    return ErrorEvent(read_failure(fields)) if is_error else None


def _to_event(wire: WireChunk, *, whole: bool = False) -> Chunk | ErrorEvent:
    choices = wire.choices
    choice = choices[0] if choices and not choices[0].index else _first(choices or ())
    if choice.error:
        return ErrorEvent(read_failure({"error": choice.error}))
    message = choice.message if whole else choice.delta
    return Chunk(
        () if message is None else _numbered(message) if whole else to_deltas(message),
        choice.finish_reason,
        choice.stop_reason,
        choice.token_ids,
        None if choice.logprobs is None else _logprobs(choice.logprobs),
        wire.usage,
        wire.prompt_token_ids,
        wire.id,
        wire.model,
        None if wire.metadata is None and wire.weight_versions is None else policy_version(wire),
    )


def _logprobs(told: WireLogprobs | Json) -> list[TokenLogprob] | None:
    match told:
        case WireLogprobs(content):
            return content or []
        case dict():
            return read_logprobs(told.get("content"))
        case _:
            return None


def _first(choices: Sequence[WireChoice]) -> WireChoice:
    return next((choice for choice in choices if not choice.index), _nothing)


def _numbered(message: WireMessage) -> list[Delta]:
    """The deltas of a whole message, whose calls have no index: each is one of its own."""
    numbers = count()
    return [
        msgspec.structs.replace(delta, index=next(numbers)) if isinstance(delta, CallDelta) else delta
        for delta in to_deltas(message)
    ]
