"""What one round of the server produced, the same whether it was streamed or not."""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    refusal: bool = False


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call as the model wrote it: the arguments are its own text, not yet trusted to be JSON."""

    call_id: str
    name: str
    arguments: str
    doubted: bool = False
    """The server did not know the tool (vLLM's `mcp_call`); it is a call only if the tool was offered."""
    whole: bool = True
    """False while the server has only announced the call: its arguments were never told."""


@dataclass(frozen=True, slots=True)
class OtherItem:
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
    """What the server said of a failed reply."""
    said: bytes = field(default=b"", compare=False, repr=False)
    """The whole reply as the server spelled it, in JSON, for who debugs it."""

    @property
    def cut_off(self) -> bool:
        """Whether the reply ended because a cap on its tokens did."""
        return self.status is Status.INCOMPLETE and self.incomplete_reason in (None, "max_output_tokens", "length")

    @property
    def calls(self) -> tuple[FunctionCall, ...]:
        return tuple(item for item in self.items if isinstance(item, FunctionCall))
