"""Convert a Turn to a ChatResponse: blocks, tool calls, usage and finish reason."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, assert_never

import msgspec
from amplifier_core.content_models import ContentBlock, TextContent, ThinkingContent, ToolCallContent
from amplifier_core.llm_errors import InvalidToolCallError
from amplifier_core.message_models import (
    ChatResponse,
    Degradation,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    ToolCallBlock,
    ToolSpec,
    Usage,
)

from ._config import Rates
from ._constants import PROVIDER
from ._strict_json import Json, read_json
from ._turn import FunctionCall, HostedCall, Item, OtherItem, Reasoning, Status, Text, TokenUsage, Turn

Block = TextBlock | ThinkingBlock | ToolCallBlock


@dataclass(frozen=True, slots=True)
class BadCall:
    """An invalid call, and why; no call of its turn is run."""

    call: FunctionCall
    reason: str
    cause: Exception | None = field(default=None, compare=False)

    def error(self, model: str) -> InvalidToolCallError:
        return InvalidToolCallError(
            f"the model called {self.call.name!r:.100} {self.reason}",
            provider=PROVIDER,
            model=model,
            tool_name=self.call.name,
            raw_arguments=self.call.arguments,
        )


def to_response(
    turn: Turn,
    tools: Sequence[ToolSpec],
    rates: Rates | None,
    degradations: Sequence[Degradation] = (),
    *,
    spent: TokenUsage | None = None,
    continuations: int = 0,
    validated: bool = False,
) -> ChatResponse | BadCall:
    """The reply, or its first invalid call. `spent`: the usage of all rounds of the call, if there were several.

    `validated`: the session itself denies calls of unknown tools, and calls without required arguments.
    """
    schemas = {tool.name: tool.parameters for tool in tools}
    items = turn.items if turn.status is Status.COMPLETED else _replace_truncated_call(turn.items)
    blocks: list[Block] = []
    for item in items:
        block = _block(item, schemas, validated)
        if isinstance(block, BadCall):
            return block
        blocks.append(block)
    calls = [ToolCall(id=b.id, name=b.name, arguments=b.input) for b in blocks if isinstance(b, ToolCallBlock)]
    texts = [block.text for block in blocks if isinstance(block, TextBlock)]
    extras: dict[str, Any] = {
        "content_blocks": [_content_block(block) for block in blocks],
        "text": "".join(texts) or None,
    }
    return ChatResponse(
        content=[*blocks],
        tool_calls=calls or None,
        usage=to_usage(turn.usage, rates, spent),
        degradation=_merge(degradations),
        finish_reason=_finish_reason(turn, bool(calls)),
        metadata=_metadata(turn, spent, continuations),
        **extras,
    )


def to_usage(last: TokenUsage | None, rates: Rates | None, spent: TokenUsage | None = None) -> Usage | None:
    """The usage of a reply: the prompt of its last round, which is what the context holds, and the output of all.

    None if there are no counts: zero would look like a count.
    """
    last, spent = last or spent, spent or last
    if last is None or spent is None:
        return None
    # Amplifier adds cache writes to the input; vLLM's are a part of it, and free unless the rates say otherwise.
    priced_writes = rates is not None and rates.cache_write is not None
    return Usage(
        input_tokens=last.input_tokens,
        output_tokens=spent.output_tokens,
        total_tokens=last.input_tokens + spent.output_tokens,
        reasoning_tokens=spent.reasoning_tokens,
        cache_read_tokens=last.cached_tokens,
        cache_write_tokens=last.cache_write_tokens if priced_writes else None,
        cost_usd=cost(spent, rates),
    )


def cost(usage: TokenUsage | None, rates: Rates | None) -> Decimal | None:
    """The price in US dollars; None without counts or rates."""
    if usage is None or rates is None:
        return None
    cached, cache_writes = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    uncached = usage.input_tokens - cached - (cache_writes if rates.cache_write is not None else 0)
    priced = (
        (rates.input, max(0, uncached)),  # some gateways do not count cached tokens as input
        (rates.input if rates.cache_read is None else rates.cache_read, cached),
        (rates.cache_write or 0, cache_writes),
        (rates.output, usage.output_tokens),
    )
    return sum((Decimal(str(rate)) * tokens for rate, tokens in priced), Decimal()) / 1_000_000


def parse_arguments(call: FunctionCall, schema: Mapping[str, Any]) -> dict[str, Any] | BadCall:
    """The arguments as a tool accepts them; invalid and missing ones are never replaced by `{}`."""
    if not call.complete:
        return BadCall(call, "without sending its arguments")
    try:
        arguments: Json = read_json(call.arguments) if call.arguments.strip() else {}
    except ValueError as error:
        return BadCall(call, f"with arguments that are not JSON ({error})", error)
    if not isinstance(arguments, dict):
        return BadCall(call, "with arguments that are not a JSON object")
    required: Json = schema.get("required")
    if not arguments and isinstance(required, list) and required:
        return BadCall(call, f"without arguments, but the tool requires {', '.join(map(repr, required))}")
    properties: Mapping[str, Json] = schema.get("properties") or {}
    return {key: _unwrap_json(value, properties.get(key)) for key, value in arguments.items()}


def _block(item: Item, schemas: Mapping[str, Mapping[str, Any]], validated: bool) -> Block | BadCall:
    match item:
        case Reasoning(text=text):
            return ThinkingBlock(thinking=text)
        case HostedCall():
            # Not a text: it would be a part of the answer. Not a call: the session would run it again.
            stored = {"hosted_call": msgspec.to_builtins(item)}
            return ThinkingBlock.model_validate({"thinking": item.text, "vllm": stored})
        case Text(text=text) | OtherItem(text=text):
            return TextBlock(text=text)
        case FunctionCall():
            return _call_block(item, schemas, validated)
        case _:
            assert_never(item)


def _call_block(
    call: FunctionCall, schemas: Mapping[str, Mapping[str, Any]], validated: bool
) -> ToolCallBlock | BadCall:
    tool = _tool_name(call.name, schemas)
    if call.unrecognised and tool not in schemas and not validated:
        return BadCall(call, f"which is not among the tools: {', '.join(schemas) or 'none'}")
    schema = schemas.get(tool, {})
    arguments = parse_arguments(call, {**schema, "required": []} if validated else schema)
    if isinstance(arguments, BadCall):
        return arguments
    return ToolCallBlock(id=call.call_id, name=tool, input=arguments, **_original_arguments(call, arguments))


def _original_arguments(call: FunctionCall, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The model's raw arguments if our JSON differs: replayed unchanged, they hit the prefix cache."""
    ours = json.dumps(arguments, ensure_ascii=False)
    return {} if call.arguments in ("", ours) else {"vllm": {"arguments": call.arguments}}


def _tool_name(name: str, schemas: Mapping[str, object]) -> str:
    """The tool's name without leaked Harmony: gpt-oss writes `functions.get_weather<|channel|>commentary`."""
    bare = name.partition("<|")[0].strip().removeprefix("functions.")
    return bare if name not in schemas and bare in schemas else name


def _content_block(block: Block) -> ContentBlock:
    match block:
        case ThinkingBlock(thinking=text):
            return ThinkingContent(text=text)
        case TextBlock(text=text):
            return TextContent(text=text)
        case ToolCallBlock(id=call_id, name=name, input=arguments):
            return ToolCallContent(id=call_id, name=name, arguments=arguments)
        case _:
            assert_never(block)


def _replace_truncated_call(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items with a text in place of a call at the end of a truncated reply: it is never run.

    Its arguments may look whole: vLLM gives a call that was cut before them with `{}`.
    """
    match items:
        case [*before, FunctionCall() as last]:
            return (*before, OtherItem("function_call", f"[The reply was cut off in a call of {last.name}.]"))
        case _:
            return items


def _unwrap_json(value: Json, schema: Json) -> Json:
    """Decode an object or list that the model wrote as a JSON string, if the tool's schema wants one."""
    match schema:
        case {"type": "object" | "array" as kind} if isinstance(value, str):
            try:
                unwrapped = read_json(value)
            except ValueError:
                return value
            return unwrapped if isinstance(unwrapped, dict if kind == "object" else list) else value
        case _:
            return value


def finish_reason(turn: Turn) -> str:
    """Why a turn ended, in Amplifier's words."""
    return _finish_reason(turn, bool(turn.calls))


def _finish_reason(turn: Turn, calls: bool) -> str:
    refused = any(isinstance(item, Text) and item.refusal for item in turn.items)
    if refused or turn.incomplete_reason == "content_filter":
        return "content_filter"
    if turn.status is Status.INCOMPLETE:
        return "length"
    return "tool_calls" if calls else "stop"


def _metadata(turn: Turn, spent: TokenUsage | None, continuations: int) -> dict[str, Any]:
    values = {
        "vllm:status": turn.status.value,
        "vllm:response_id": turn.response_id,
        "vllm:model": turn.model,
        "vllm:incomplete_reason": turn.incomplete_reason,
        "vllm:continuation_count": continuations or None,
        "vllm:hosted_calls": [msgspec.to_builtins(call) for call in turn.hosted_calls] or None,
        "vllm:billed_tokens": None if spent is None or spent == turn.usage else _billed(spent),
        "vllm:logprobs": None if turn.logprobs is None else msgspec.json.decode(msgspec.json.encode(turn.logprobs)),
        "vllm:usage_estimated": True if turn.usage is not None and turn.usage.estimated else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _billed(spent: TokenUsage) -> dict[str, int]:
    return {"input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens}


def _merge(degradations: Sequence[Degradation]) -> Degradation | None:
    if not degradations:
        return None
    return Degradation(
        requested=", ".join(dict.fromkeys(one.requested for one in degradations)),
        actual=", ".join(dict.fromkeys(one.actual for one in degradations)),
        reason="; ".join(dict.fromkeys(one.reason for one in degradations)),
    )
