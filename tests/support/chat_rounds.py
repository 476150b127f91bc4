"""Replies of /v1/chat/completions as the package's stages: bodies, events, updates and a Turn."""

import json
from collections.abc import Iterable
from typing import Any

from amplifier_core.message_models import ToolSpec

from amplifier_module_provider_vllm._ask import Ask
from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._chat.events import Event, decode_event, decode_reply
from amplifier_module_provider_vllm._chat.fold import ChatFold
from amplifier_module_provider_vllm._turn import Turn
from amplifier_module_provider_vllm._wire.sse import SSEFramer
from tests.support.recordings import Recording
from tests.support.requests import ask_of
from tests.support.rounds import FoldResult

TOOLS = [ToolSpec(name=name, parameters={"type": "object"}) for name in ("get_weather", "get_weather_now", "get_time")]
ASK = ask_of(request={"tools": TOOLS})


def chunk(delta: object = None, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk; `fields` are further ones of its choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason, **fields}
    return {"id": "chatcmpl-1", "model": "tiny", "choices": [choice]}


def calls(*pieces: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return chunk({"tool_calls": list(pieces)}, finish_reason)


def piece(arguments: object = None, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A piece of a call."""
    return {**fields, "function": {"name": name, "arguments": arguments}}


def stream(*chunks: object, done: bool = True) -> bytes:
    data = [*map(json.dumps, chunks), *(["[DONE]"] if done else [])]
    return "".join(f"data: {one}\n\n" for one in data).encode()


def whole(message: object, finish_reason: str | None = "stop", **fields: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return json.dumps({"id": "chatcmpl-1", "model": "tiny", "choices": [choice], **fields}).encode()


def events_of_reads(reads: Iterable[bytes]) -> list[list[Event]]:
    """The events of each read of a stream."""
    framer = SSEFramer()
    frames = [*(framer.feed(read) for read in reads), framer.end()]
    return [[event for event in map(decode_event, read) if event is not None] for read in frames]


def fold_reads(reads: Iterable[bytes], ask: Ask = ASK) -> FoldResult:
    """A stream that ends properly, read in these pieces."""
    return fold_batches(events_of_reads(reads), ask)


def fold_batches(batches: Iterable[Iterable[Event]], ask: Ask = ASK) -> FoldResult:
    fold = ChatFold(Blocks(), ask)
    updates = [update for batch in batches for update in fold.push_all(batch)]
    return FoldResult([*updates, *fold.end()], fold.turn, fold.failure)


def fold_stream(*chunks: object, done: bool = True, ask: Ask = ASK) -> FoldResult:
    return fold_reads([stream(*chunks, done=done)], ask)


def fold_body(body: bytes, ask: Ask = ASK) -> FoldResult:
    """An unstreamed reply."""
    return fold_batches([[decode_reply(body)]], ask)


def turn_of_stream(*chunks: object, done: bool = True, ask: Ask = ASK) -> Turn:
    turn = fold_stream(*chunks, done=done, ask=ask).turn
    assert turn is not None
    return turn


def turn_of_body(body: bytes, ask: Ask = ASK) -> Turn:
    turn = fold_body(body, ask).turn
    assert turn is not None
    return turn


def fold_recording(recording: Recording, ask: Ask) -> FoldResult:
    return fold_reads([recording.body], ask) if recording.is_stream else fold_body(recording.body, ask)


def ask_for(recording: Recording, *, harmony: bool) -> Ask:
    """An Ask with the tools and the cap of a recorded request."""
    request = recording.request
    functions = [tool["function"] for tool in request.get("tools") or () if "function" in tool]
    tools = [ToolSpec(name=one["name"], parameters=one.get("parameters") or {}) for one in functions]
    cap = request.get("max_completion_tokens") or request.get("max_tokens")
    return ask_of(request={"tools": tools or None}, overrides={"max_output_tokens": cap}, harmony=harmony)
