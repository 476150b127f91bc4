"""The few events of a Responses stream that we read, typed; every other event is skipped unread.

The wire as vLLM 0.32 speaks it, and as gateways do that send OpenResponses names (`response.reasoning.delta`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from .._turn import FunctionCall, Item, OtherItem, Reasoning, Status, Text, TokenUsage, Turn


class _Wire(msgspec.Struct, frozen=True):
    """Fields that we do not name are ignored; a server may send null wherever a default stands."""


class TextDelta(_Wire, frozen=True):
    delta: str
    output_index: int = 0
    content_index: int = 0


class ReasoningDelta(_Wire, frozen=True):
    delta: str
    output_index: int = 0
    content_index: int = 0


class SummaryDelta(_Wire, frozen=True):
    delta: str
    output_index: int = 0
    summary_index: int = 0


class RefusalDelta(_Wire, frozen=True):
    delta: str
    output_index: int = 0
    content_index: int = 0


class WirePart(_Wire, frozen=True):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class WireItem(_Wire, frozen=True):
    """An output item: the fields of the kinds that we convert, all optional."""

    type: str = "message"
    content: list[WirePart] | str | None = None
    summary: list[WirePart] | None = None
    call_id: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: str | None = None


class ItemAdded(_Wire, frozen=True):
    item: WireItem
    output_index: int = 0


class ItemDone(_Wire, frozen=True):
    item: WireItem
    output_index: int = 0


class _WireTokenDetails(_Wire, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _WireUsage(_Wire, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _WireTokenDetails | None = None
    output_tokens_details: _WireTokenDetails | None = None


class WireError(_Wire, frozen=True):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None


class _WireIncomplete(_Wire, frozen=True):
    reason: str | None = None


class WireResponse(_Wire, frozen=True):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: _WireUsage | None = None
    incomplete_details: _WireIncomplete | None = None
    error: WireError | str | None = None


class Ended(_Wire, frozen=True):
    """The terminal event of a stream, or a whole reply dressed as one."""

    response: WireResponse
    output: list[WireItem]


class ErrorSaid(_Wire, frozen=True):
    """An `error` event, in OpenAI's flat shape or in the `{"error": {…}}` of vLLM's chat endpoint."""

    error: WireError | str | None = None
    message: str | None = None
    code: str | int | None = None


Event = TextDelta | ReasoningDelta | SummaryDelta | RefusalDelta | ItemAdded | ItemDone | Ended | ErrorSaid


class _WireItemEvent(_Wire, frozen=True):
    item: msgspec.Raw
    output_index: int = 0


class _WireEnded(_Wire, frozen=True):
    response: WireResponse


class _Named(_Wire, frozen=True):
    type: str | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Typed(_Wire, frozen=True):
    type: str = "message"


_named = msgspec.json.Decoder(_Named)
_typed = msgspec.json.Decoder(_Typed)
_item = msgspec.json.Decoder(WireItem)
_item_event = msgspec.json.Decoder(_WireItemEvent)
_ended = msgspec.json.Decoder(_WireEnded)
_response = msgspec.json.Decoder(WireResponse)

_CALL_TYPES: Final = {"function_call", "mcp_call"}
"""gpt-oss calling a tool in a name that vLLM does not know arrives as an `mcp_call` (vLLM 0.32, parser/harmony.py)."""
_CONVERTED: Final = {"message", "reasoning", *_CALL_TYPES}


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
        return _to_ended(_ended.decode(data).response, status)

    return decode


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
    b"error": _decoder(ErrorSaid),
}


def decode_event(name: bytes, data: bytes) -> Event | None:
    """The event, or None for one that we do not read. Raises `msgspec.DecodeError` for data that is no such event."""
    decode = _DECODERS.get(name)
    if decode is not None:
        return decode(data)
    if name or data == b"[DONE]":
        return None
    named = _named.decode(data)
    says_error = named.type is None and bytes(named.error) != b"null"
    unnamed = _DECODERS.get(b"error" if says_error else (named.type or "").encode())
    return None if unnamed is None else unnamed(data)


def decode_reply(body: bytes) -> Event:
    """A whole reply as the one event of its stream; `{"error": …}` with status 200 is an `ErrorSaid`."""
    response = _response.decode(body)
    if response.output is None and response.error is not None:
        return ErrorSaid(error=response.error)
    return _to_ended(response, "completed")


def _to_ended(response: WireResponse, status: str) -> Ended:
    """`status`: how the event's own name says it ended, where the response in it does not."""
    ended = response if response.status is not None else msgspec.structs.replace(response, status=status)
    return Ended(ended, [_read_item(item) for item in response.output or ()])


def _read_item(raw: msgspec.Raw) -> WireItem:
    """An output item; of a kind that we do not convert only its type, so that no odd field of it can cost the reply."""
    kind = _typed.decode(raw).type
    return _item.decode(raw) if kind in _CONVERTED else WireItem(kind, content=_readable(kind, raw))


def is_call(item: WireItem) -> bool:
    return item.type in _CALL_TYPES


def to_items(item: WireItem) -> list[tuple[str, Item]]:
    """One block for each part of an output item, under the key that its deltas carry."""
    match item.type:
        case "message":
            return [(f"content.{n}", _to_text(part)) for n, part in enumerate(_parts(item.content))]
        case "reasoning":
            summaries = [(f"summary.{n}", Reasoning(part.text or "")) for n, part in enumerate(item.summary or ())]
            contents = [(f"reasoning.{n}", Reasoning(part.text or "")) for n, part in enumerate(_parts(item.content))]
            return [*summaries, *contents]
        case kind if kind in _CALL_TYPES:
            call_id = item.call_id or item.id or ""
            doubted = kind != "function_call"
            return [("call", FunctionCall(call_id, item.name or "", item.arguments or "", doubted))]
        case _:
            return [
                ("other", OtherItem(item.type, item.content if isinstance(item.content, str) else f"[{item.type}]"))
            ]


def to_turn(response: WireResponse, items: tuple[Item, ...]) -> Turn:
    reason = response.incomplete_details.reason if response.incomplete_details else None
    return Turn(
        items=items,
        status=_to_status(response),
        response_id=response.id,
        model=response.model,
        usage=_to_usage(response.usage),
        incomplete_reason=reason,
        failure=error_text(response.error),
    )


def error_text(error: WireError | str | None) -> str | None:
    match error:
        case WireError(message=message, code=code, type=kind):
            return message or str(code or kind or "no reason given")
        case _:
            return error


def _readable(kind: str, raw: msgspec.Raw) -> str:
    said = msgspec.json.decode(raw, type=dict[str, object])
    telling = {key: value for key, value in said.items() if key not in ("id", "type", "status") and value is not None}
    return f"[{kind}: {msgspec.json.encode(telling).decode()}]"


def _parts(content: list[WirePart] | str | None) -> list[WirePart]:
    return [WirePart("output_text", content)] if isinstance(content, str) else content or []


def _to_text(part: WirePart) -> Item:
    if part.refusal is not None:
        return Text(part.refusal, refusal=True)
    if part.text is None and part.type not in ("", "output_text"):
        return OtherItem(part.type, f"[{part.type}]")
    return Text(part.text or "")


def _to_status(response: WireResponse) -> Status:
    if response.status in ("failed", "cancelled") or response.error is not None:
        return Status.FAILED
    if response.status == "incomplete" or response.incomplete_details is not None:
        return Status.INCOMPLETE
    return Status.COMPLETED


def _to_usage(usage: _WireUsage | None) -> TokenUsage | None:
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    read, written = usage.input_tokens_details, usage.output_tokens_details
    return TokenUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=written.reasoning_tokens if written else None,
        cached_tokens=read.cached_tokens if read else None,
        cache_write_tokens=read.cache_write_tokens if read else None,
    )
