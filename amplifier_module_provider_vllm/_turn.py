"""What one round of the server produced, the same whether it was streamed or not.

Items are msgspec structs: a frozen dataclass takes five times as long to make, and a history has thousands of them.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class Reasoning(msgspec.Struct, frozen=True):
    text: str


class Text(msgspec.Struct, frozen=True):
    text: str
    refusal: bool = False
    beside_calls: bool = False
    """Whether the message that it is a part of also calls tools: told of a prompt's texts, not of a reply's."""


class FunctionCall(msgspec.Struct, frozen=True):
    """A call as the model wrote it: the arguments are its own text, not yet trusted to be JSON."""

    call_id: str
    name: str
    arguments: str
    unrecognised: bool = False
    """The server did not know the tool (vLLM's `mcp_call`); it is a call only if the tool was offered."""
    complete: bool = True
    """False while the server has only announced the call: its arguments have not arrived."""


class OtherItem(msgspec.Struct, frozen=True):
    """An item kind this provider does not convert, in text that a user can read, so that it does not vanish."""

    type: str
    text: str


Item = Reasoning | Text | FunctionCall | OtherItem
"""One content block: its place in `Turn.items` is its block index, in the stream and in the reply."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The counts of a round, in tokens. None: the server did not say."""

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False
    """Whether the counts are ours: the server gave none."""


class Status(StrEnum):
    """How the server ended a reply. vLLM 0.32 says `incomplete` inside a `response.completed` event."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Turn:
    items: tuple[Item, ...]
    status: Status
    response_id: str | None = None
    model: str | None = None
    usage: TokenUsage | None = None
    incomplete_reason: str | None = None
    failure: str | None = None
    """The server's reason for a failed reply."""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The reply as the server sent it, in JSON, for the debug events."""

    @property
    def truncated(self) -> bool:
        """Whether the reply ended because a cap on its tokens did."""
        return self.status is Status.INCOMPLETE and self.incomplete_reason in (None, "max_output_tokens", "length")

    @property
    def calls(self) -> tuple[FunctionCall, ...]:
        return tuple(item for item in self.items if isinstance(item, FunctionCall))


def is_counted(usage: TokenUsage | None) -> bool:
    """Whether the server counted: no prompt is empty, but vLLM 0.10 gave zeros for gpt-oss."""
    return usage is not None and (usage.input_tokens > 0 or usage.output_tokens > 0)


def total_usage(first: TokenUsage | None, second: TokenUsage | None) -> TokenUsage | None:
    """What two rounds cost together."""
    if first is None or second is None:
        return first or second
    return TokenUsage(
        input_tokens=first.input_tokens + second.input_tokens,
        output_tokens=first.output_tokens + second.output_tokens,
        reasoning_tokens=_sum(first.reasoning_tokens, second.reasoning_tokens),
        cached_tokens=_sum(first.cached_tokens, second.cached_tokens),
        cache_write_tokens=_sum(first.cache_write_tokens, second.cache_write_tokens),
        estimated=first.estimated or second.estimated,
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None and second is None else (first or 0) + (second or 0)
