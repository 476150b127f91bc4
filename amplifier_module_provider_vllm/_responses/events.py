"""The few events of a Responses stream that we read, as types; every other event is skipped without decoding.

The names are those of vLLM 0.32, and of gateways that send OpenResponses names (`response.reasoning.delta`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from .._failure import Failure, read_failure
from .._reply_values import text_id
from .._strict_json import Json, wire_value
from .._surrogates import fields_with_surrogates
from .._wire.sse import DONE, MAX_PING_BYTES, Frame
from .hosted import HOSTED_TYPES, LISTING
from .items import CALL_TYPES, Wire, WireItem, WireResponse


class Delta(Wire, frozen=True):
    """A delta of one part of an output item."""

    delta: str
    output_index: int = 0
    part: int = msgspec.field(name="content_index", default=0)

    def continues(self, last: "Delta") -> bool:
        return type(self) is type(last) and self.output_index == last.output_index and self.part == last.part


class TextDelta(Delta, frozen=True):
    pass


class ReasoningDelta(Delta, frozen=True):
    pass


class RefusalDelta(Delta, frozen=True):
    pass


class SummaryDelta(Delta, frozen=True):
    part: int = msgspec.field(name="summary_index", default=0)


AnyDelta = TextDelta | ReasoningDelta | SummaryDelta | RefusalDelta


class SplitDelta(Wire, frozen=True):
    """A delta with lone surrogates: a gateway that cuts strings in UTF-16 sent a character in two deltas."""

    delta: AnyDelta


class ItemAdded(Wire, frozen=True):
    item: WireItem
    output_index: int = 0


class ItemDone(Wire, frozen=True):
    item: WireItem
    output_index: int = 0


class TerminalEvent(Wire, frozen=True):
    """The terminal event of a stream, or an unstreamed reply in the form of one."""

    response: WireResponse
    output: list[WireItem]
    raw: bytes = b""
    """The server's raw JSON."""


class ErrorEvent(Wire, frozen=True):
    """An `error` event, or an error in place of an unstreamed reply."""

    failure: Failure


Event = AnyDelta | SplitDelta | ItemAdded | ItemDone | TerminalEvent | ErrorEvent


class _WireItemEvent(Wire, frozen=True):
    item: msgspec.Raw
    output_index: int = 0


class _WireTerminalEvent(Wire, frozen=True):
    response: msgspec.Raw


class _EventHead(Wire, frozen=True):
    type: str | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class _ReplyHead(Wire, frozen=True):
    output: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _ItemHead(Wire, frozen=True):
    type: str = "message"


_event_head = msgspec.json.Decoder(_EventHead)
_reply_head = msgspec.json.Decoder(_ReplyHead)
_item_head = msgspec.json.Decoder(_ItemHead)
_item = msgspec.json.Decoder(WireItem)
_item_event = msgspec.json.Decoder(_WireItemEvent)
_terminal_event = msgspec.json.Decoder(_WireTerminalEvent)
_response = msgspec.json.Decoder(WireResponse)

_ENVELOPE: Final = {"type", "sequence_number"}

_CONVERTED_TYPES: Final = {"message", "reasoning", *CALL_TYPES}


def _decoder(event: type[Any]) -> Callable[[bytes], Event]:
    decode: Callable[[bytes], Event] = msgspec.json.Decoder(event).decode
    return decode


def _item_decoder(event: type[ItemAdded | ItemDone]) -> Callable[[bytes], Event]:
    def decode(data: bytes) -> Event:
        wire = _item_event.decode(data)
        return event(_read_item(wire.item), wire.output_index)

    return decode


def _end_decoder(status: str) -> Callable[[bytes], Event]:
    def decode(data: bytes) -> Event:
        return _to_terminal_event(bytes(_terminal_event.decode(data).response), status)

    return decode


def _decode_error(data: bytes) -> Event:
    fields = msgspec.json.decode(data, type=dict[str, object])
    return ErrorEvent(read_failure({key: value for key, value in fields.items() if key not in _ENVELOPE}))


_DECODERS: Final[Mapping[bytes, Callable[[bytes], Event]]] = {
    b"response.output_text.delta": _decoder(TextDelta),
    b"response.reasoning_text.delta": _decoder(ReasoningDelta),
    b"response.reasoning.delta": _decoder(ReasoningDelta),
    b"response.reasoning_summary_text.delta": _decoder(SummaryDelta),
    b"response.refusal.delta": _decoder(RefusalDelta),
    b"response.output_item.added": _item_decoder(ItemAdded),
    b"response.output_item.done": _item_decoder(ItemDone),
    b"response.completed": _end_decoder("completed"),
    b"response.incomplete": _end_decoder("incomplete"),
    b"response.failed": _end_decoder("failed"),
    b"error": _decode_error,
}


def decode_event(frame: Frame) -> Event | None:
    """The event, or None for one that we do not read. Raises `msgspec.DecodeError` for invalid data."""
    name, data = frame.event, frame.data
    decode = _DECODERS.get(name)
    if decode is None and (name or data == DONE):
        return None
    try:
        return _decode_unnamed(data) if decode is None else decode(data)
    except msgspec.DecodeError as error:
        fields = fields_with_surrogates(data, error)
        event = decode_event(Frame(name, _paired(fields)))
        return (
            SplitDelta(msgspec.structs.replace(event, delta=fields["delta"])) if isinstance(event, AnyDelta) else event
        )


def _decode_unnamed(data: bytes) -> Event | None:
    head = _event_head.decode(data)
    is_error = head.type is None and bytes(head.error) != b"null"
    decode = _DECODERS.get(b"error" if is_error else (head.type or "").encode())
    return None if decode is None else decode(data)


def is_progress(frame: Frame) -> bool:
    """Whether an event, read by us or not, belongs to the reply; a gateway's ping does not."""
    name, data = frame.event, frame.data
    # vLLM writes an event's type at its end: one without a name that has only begun is known by its length.
    unnamed = not name and (b'"response.' in data or len(data) > MAX_PING_BYTES)
    return name.startswith(b"response.") or name == b"error" or unnamed


def is_last(event: Event) -> bool:
    """Whether the event is the terminal one."""
    return isinstance(event, TerminalEvent)


def decode_reply(body: bytes) -> Event:
    """An unstreamed reply as a single event; `{"error": …}` with status 200 is an `ErrorEvent`."""
    try:
        return _read_reply(body)
    except msgspec.DecodeError as error:
        return _read_reply(_paired(fields_with_surrogates(body, error)))


def _read_reply(body: bytes) -> Event:
    head = _reply_head.decode(body)
    if bytes(head.output) == b"null" and bytes(head.error) != b"null":
        return _decode_error(body)
    return _to_terminal_event(body, "completed")


def _paired(fields: dict[str, Json]) -> bytes:
    return msgspec.json.encode(wire_value(fields))


def _to_terminal_event(raw: bytes, status: str) -> TerminalEvent:
    """The event of a raw response; `status`, from the event's name, is the fallback for a response without one."""
    response = _response.decode(raw)
    with_status = response if response.status is not None else msgspec.structs.replace(response, status=status)
    return TerminalEvent(with_status, [_read_item(item) for item in response.output or ()], raw)


def _read_item(raw: msgspec.Raw) -> WireItem:
    """An output item. Kinds that we do not convert are not validated: their invalid fields must not fail the reply."""
    kind = _item_head.decode(raw).type
    if kind == LISTING or kind in HOSTED_TYPES:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        item = _item.decode(raw) if kind in CALL_TYPES else WireItem(kind, id=text_id(fields.get("id")))
        return msgspec.structs.replace(item, fields=fields)
    return _item.decode(raw) if kind in _CONVERTED_TYPES else WireItem(kind, content=_as_text(kind, raw))


def _as_text(kind: str, raw: msgspec.Raw) -> str:
    fields = msgspec.json.decode(raw, type=dict[str, object])
    content = {key: value for key, value in fields.items() if key not in ("id", "type", "status") and value is not None}
    return f"[{kind}: {msgspec.json.encode(content).decode()}]"
