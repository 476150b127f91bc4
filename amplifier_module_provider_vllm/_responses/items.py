"""The wire types of a reply, and their conversion to items and a Turn."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from .._failure import read_failure
from .._reply_values import count, read_logprobs, text_id, to_arguments
from .._strict_json import Json
from .._turn import FunctionCall, Item, OtherItem, Reasoning, Status, Text, TokenLogprob, TokenUsage, Turn
from .hosted import HOSTED_TYPES, LISTING, to_hosted_call


class Wire(msgspec.Struct, frozen=True):
    """A wire type: unknown fields are ignored, and a server may send null for any field with a default."""


class WirePart(Wire, frozen=True):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    logprobs: Any = None
    """Read by `to_logprobs`."""


class WireItem(Wire, frozen=True):
    """An output item with the fields of every kind that we convert, all optional."""

    type: str = "message"
    content: list[WirePart] | str | None = None
    summary: list[WirePart] | None = None
    call_id: str | int | None = None
    id: str | int | None = None
    name: str | None = None
    arguments: Any = None
    """JSON as a string; some gateways send the object itself."""
    input: str | None = None
    """The text for a custom tool."""
    fields: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any], name=" fields")
    """All fields, for the kinds that are read in `hosted`."""


class _WireIncomplete(Wire, frozen=True):
    reason: str | None = None


class WireResponse(Wire, frozen=True):
    id: str | int | None = None
    model: str | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: Any = None
    """Read by `_to_usage`: an odd count must not cost the reply."""
    incomplete_details: _WireIncomplete | None = None
    error: object = None


CALL_TYPES: Final = {"function_call", "custom_tool_call", "mcp_call"}
"""If gpt-oss calls a tool by a name unknown to vLLM, the call arrives as `mcp_call` (vLLM 0.32, parser/harmony.py)."""


def to_items(item: WireItem, hosted_labels: Collection[str] = ()) -> list[tuple[str, Item]]:
    """One item for each part of an output item, with the key of its deltas.

    `hosted_labels`: those of the MCP servers whose calls the server runs. A list of tools is no part of the answer.
    """
    call_id = text_id(item.call_id) or text_id(item.id) or ""
    hosted = to_hosted_call(item.type, call_id, item.fields, hosted_labels) if item.type in HOSTED_TYPES else None
    if hosted is not None:
        return [("call", hosted)]
    match item.type:
        case kind if kind == LISTING:
            return []
        case "message":
            return [(f"content.{n}", _to_text(part)) for n, part in enumerate(_parts(item.content))]
        case "reasoning":
            contents = _parts(item.content)
            # A summary beside the content is the same thought again.
            thoughts = contents if any(part.text for part in contents) else item.summary or contents
            return [(f"reasoning.{n}", Reasoning(part.text or "")) for n, part in enumerate(thoughts)]
        case kind if kind in CALL_TYPES:
            # vLLM reads a custom tool's call back as that of a function with this one argument.
            arguments = item.arguments if kind != "custom_tool_call" else {"input": item.input or ""}
            return [("call", FunctionCall(call_id, item.name or "", to_arguments(arguments), kind == "mcp_call"))]
        case _:
            return [
                ("other", OtherItem(item.type, item.content if isinstance(item.content, str) else f"[{item.type}]"))
            ]


def to_logprobs(items: Iterable[WireItem]) -> tuple[TokenLogprob, ...] | None:
    """The log probabilities of a terminal event's texts. Unstreamed, vLLM 0.32 gives those of all tokens there."""
    parts = [part for item in items if not isinstance(item.content, str) for part in item.content or ()]
    return tuple(one for part in parts for one in read_logprobs(part.logprobs)) or None


def to_turn(response: WireResponse, raw: bytes) -> Turn:
    """The Turn of a response, without its items: the fold has those."""
    reason = response.incomplete_details.reason if response.incomplete_details else None
    return Turn(
        items=(),
        status=_to_status(response),
        response_id=text_id(response.id),
        model=response.model,
        usage=_to_usage(response.usage),
        incomplete_reason=reason,
        failure=None if response.error is None else read_failure(response.error),
        raw=raw,
    )


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


def _to_usage(usage: Json) -> TokenUsage | None:
    input_tokens, output_tokens = count(usage, "input_tokens"), count(usage, "output_tokens")
    if not isinstance(usage, Mapping) or input_tokens is None or output_tokens is None:
        return None
    input_details, output_details = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=count(output_details, "reasoning_tokens"),
        cached_tokens=count(input_details, "cached_tokens"),
        cache_write_tokens=count(input_details, "cache_write_tokens"),
    )
