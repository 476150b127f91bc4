"""The Turn of a chat completion: how it ended, its usage and token ids, and a reply in place of a stream's chunks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from .._reply_values import chat_usage, count, text_id
from .._strict_json import Json, wire_text
from .._turn import FunctionCall, Item, Reasoning, ReplyTokens, Status, Text, TokenLogprob, Turn
from .events import Chunk

CUT: Final = "length"


@dataclass(slots=True)
class Ending:
    """What the chunks of one reply tell of the whole of it."""

    finish_reason: str | None = None
    stop_reason: Any = None
    usage: Json = None
    response_id: str | int | None = None
    model: str | None = None
    prompt: Sequence[int] | None = None
    policy_version: str | None = None
    sampled: list[int] = field(default_factory=list[int])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])

    def add(self, chunk: Chunk) -> int:
        """The number of token ids and log probabilities that the chunk adds."""
        self.response_id = chunk.response_id or self.response_id
        self.model = chunk.model or self.model
        if chunk.finish_reason:  # some servers have an empty one in every chunk
            self.finish_reason, self.stop_reason = chunk.finish_reason, chunk.stop_reason
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.prompt is not None:
            self.prompt = chunk.prompt
        if chunk.policy_version is not None:
            self.policy_version = chunk.policy_version
        added = 0
        if chunk.sampled:
            self.sampled += chunk.sampled
            added = len(chunk.sampled)
        if chunk.logprobs:
            self.logprobs += chunk.logprobs
            added += sum(1 + len(one.top_logprobs) for one in chunk.logprobs)
        return added

    def output_tokens(self) -> int:
        return count(self.usage, "completion_tokens") or len(self.sampled)

    def to_turn(self, items: tuple[Item, ...], *, truncated: bool, at_cap: bool, raw: bytes | None) -> Turn:
        reason = "max_output_tokens" if truncated else "content_filter" if self.is_filtered else None
        return Turn(
            items=items,
            status=Status.COMPLETED if reason is None else Status.INCOMPLETE,
            response_id=text_id(self.response_id),
            model=self.model,
            usage=chat_usage(self.usage),
            incomplete_reason=reason,
            at_cap=at_cap,
            tokens=self._tokens(),
            logprobs=tuple(self.logprobs) or None,
            policy_version=self.policy_version,
            raw=self._raw(items) if raw is None else raw,
        )

    def _tokens(self) -> ReplyTokens | None:
        """The ids of the prompt and the reply; None without those of all tokens: gateways drop chunks without text."""
        is_whole = len(self.sampled) >= (count(self.usage, "completion_tokens") or 0)
        known = self.prompt and self.sampled and is_whole
        return ReplyTokens(tuple(self.prompt or ()), tuple(self.sampled)) if known else None

    @property
    def is_filtered(self) -> bool:
        return self.finish_reason == "content_filter"

    def _raw(self, items: Sequence[Item]) -> bytes:
        """The reply as the server would send it unstreamed, with all that we have read of it."""
        message = {
            "role": "assistant",
            "reasoning": "".join(item.text for item in items if isinstance(item, Reasoning)) or None,
            "content": "".join(item.text for item in items if isinstance(item, Text)) or None,
            "tool_calls": [_wire_call(item) for item in items if isinstance(item, FunctionCall)],
        }
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return msgspec.json.encode(
            {"id": self.response_id, "model": self.model, "choices": [choice], "usage": self.usage}
        )


def unescaped(arguments: str) -> str:
    """The arguments of an unstreamed reply of a Harmony model as the model wrote them: vLLM writes them anew in ASCII.

    Unchanged if anything but that would change.
    """
    if "\\u" not in arguments:
        return arguments
    try:
        value: Json = json.loads(arguments)
        written = json.dumps(value, ensure_ascii=False) if json.dumps(value) == arguments else arguments
    except (ValueError, RecursionError):
        return arguments
    return written if wire_text(written) == written else arguments


def _wire_call(call: FunctionCall) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
