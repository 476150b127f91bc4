"""Turn: the result of one round, the same for streamed and unstreamed replies.

Items are msgspec structs: a frozen dataclass takes five times as long to create, and a history has thousands.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from ._control_tokens import escape_control_tokens
from ._failure import Failure

MAX_SHOWN: Final = 500
"""Characters of a hosted call's arguments and of its result that its text shows: a web page would fill the screen."""


class Reasoning(msgspec.Struct, frozen=True):
    text: str


class Text(msgspec.Struct, frozen=True):
    text: str
    refusal: bool = False
    beside_calls: bool = False
    """Whether the same message also calls tools; set in a prompt, not in a reply."""
    raw: str | None = None
    """The server's text, if only a part of it is visible; set in a reply, not in a prompt."""


class FunctionCall(msgspec.Struct, frozen=True):
    """A call with its raw arguments, which may be invalid JSON."""

    call_id: str
    name: str
    arguments: str
    unrecognised: bool = False
    """Whether the server did not know the tool (vLLM's `mcp_call`): valid only if the request has the tool."""
    complete: bool = True
    """False until the arguments have arrived."""


class HostedCall(msgspec.Struct, frozen=True):
    """A call that the server has run itself, with its result: nobody runs it again."""

    call_id: str
    server: str | None
    """The label of its MCP server; None for a tool of the gateway's own, such as `web_search`."""
    tool: str
    arguments: str
    output: str = ""
    error: str | None = None
    """Why it failed; None if it did not."""

    @property
    def name(self) -> str:
        """The name under which the model calls the tool (agentic-api 0.9)."""
        return self.tool if self.server is None else f"mcp__{self.server}__{self.tool}"

    @property
    def text(self) -> str:
        """The call and its result, readable, in one line, without control tokens: it may be replayed as a thought."""
        place = "" if self.server is None else f"{self.server}."
        result = f"→ {_shortened(self.output)}" if self.error is None else f"failed: {_shortened(self.error)}"
        return escape_control_tokens(f"[{place}{self.tool}({_shortened(self.arguments)}) {result}]")


class OtherItem(msgspec.Struct, frozen=True):
    """An item of an unconverted kind, as readable text, so that it is not lost."""

    type: str
    text: str


Item = Reasoning | Text | FunctionCall | HostedCall | OtherItem
"""One content block: its position in `Turn.items` is its block index, in the stream and in the reply."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The token counts of a round. None: not reported by the server."""

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False
    """Whether the counts are ours: the server gave none."""


class TopLogprob(msgspec.Struct, frozen=True, gc=False):
    """A token that the model could have sampled at one place."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    """The token's UTF-8 bytes, which may be a part of a character; None: not told by the server."""


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """A sampled token with its log probability, and the most probable ones at its place."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplyTokens:
    """The token ids of one round, as the server gave them."""

    prompt: tuple[int, ...]
    """What the model was prompted with; in a continued round with the reply so far at its end."""
    sampled: tuple[int, ...]
    """All that it sampled in this round, markup and the token that ended it included."""
    text: str | None = None
    """The text of those, markup and control tokens included; None if the server gave only what it read in it."""

    @property
    def all(self) -> tuple[int, ...]:
        """The prompt and what was sampled."""
        return (*self.prompt, *self.sampled)


class Status(StrEnum):
    """The final status of a reply. vLLM 0.32 sends `incomplete` inside a `response.completed` event."""

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
    failure: Failure | None = None
    """The server's reason for a failed reply."""
    unavailable: tuple[tuple[str, str], ...] = ()
    """The MCP servers whose tools the model could not be offered, each with the reason."""
    at_cap: bool = False
    """Whether a reply that ended with a call has as many tokens as it may have: vLLM then hides that it was cut off."""
    tokens: ReplyTokens | None = None
    """The ids of the round, if they were asked for and the server gave them."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One entry for each sampled token, if they were asked for; those of all rounds so far."""
    policy_version: str | None = None
    """The version of the weights that sampled the reply, if the server told it."""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The server's raw JSON, for the debug events."""

    @property
    def truncated(self) -> bool:
        """Whether the reply ended at its output cap."""
        return self.status is Status.INCOMPLETE and self.incomplete_reason in (None, "max_output_tokens", "length")

    @property
    def calls(self) -> tuple[FunctionCall, ...]:
        return tuple(item for item in self.items if isinstance(item, FunctionCall))

    @property
    def hosted_calls(self) -> tuple[HostedCall, ...]:
        return tuple(item for item in self.items if isinstance(item, HostedCall))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else f"{line[:MAX_SHOWN]}… ({len(line)} characters)"


def shown_text(item: Item) -> str:
    """What a stream shows of an item: its text; of a call only the name."""
    return item.name if isinstance(item, FunctionCall) else item.text


def is_counted(usage: TokenUsage | None) -> bool:
    """Whether the usage holds real counts: no prompt is empty, but vLLM 0.10 sends zeros for gpt-oss."""
    return usage is not None and (usage.input_tokens > 0 or usage.output_tokens > 0)


def total_usage(first: TokenUsage | None, second: TokenUsage | None) -> TokenUsage | None:
    """The sum of two rounds' usage."""
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
