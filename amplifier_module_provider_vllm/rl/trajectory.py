"""Trajectories: the steps of a session, the model calls behind them, and the segments that a trainer learns from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from .fields import Fields

Source: TypeAlias = Literal["system", "user", "agent"]
SOURCES: tuple[Source, ...] = ("system", "user", "agent")


@dataclass(frozen=True, slots=True)
class Call:
    """One model call: the ids that the model was given and the ids that it sampled."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """What was sampled, the stop token included."""
    logprobs: tuple[float, ...] | None = None
    """One for each sampled token; None if the server gave none."""
    finish_reason: str | None = None
    model: str = ""
    endpoint: str = ""
    request_id: str | None = None
    response_id: str | None = None
    call_index: int = 0
    """Its place among the model calls of one request: continuations and corrections count."""
    policy_version: str | None = None
    token_in: bool = False
    """Whether the prompt was sent as ids."""
    segment: str | None = None
    """Why its prompt does not extend the call before; None if it does."""
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timestamp: str | None = None

    def __post_init__(self) -> None:
        if self.logprobs is not None and len(self.logprobs) != len(self.token_ids):
            raise ValueError(
                f"logprobs: {len(self.token_ids)} are needed, one for each token, not {len(self.logprobs)}"
            )

    @classmethod
    def from_event(cls, data: Mapping[str, Any]) -> "Call":
        """The call of an `llm:tokens` event. Raises `ValueError` that names the key and its value."""
        read = Fields(data)
        return cls(
            prompt_token_ids=read.ids("prompt_token_ids"),
            token_ids=read.ids("token_ids"),
            logprobs=read.maybe_logprobs("logprobs"),
            finish_reason=read.maybe_text("finish_reason"),
            model=read.text("model"),
            endpoint=read.text("endpoint"),
            request_id=read.maybe_text("request_id"),
            response_id=read.maybe_text("response_id"),
            call_index=read.maybe_whole("call_index") or 0,
            policy_version=read.maybe_text("policy_version"),
            token_in=read.flag("token_in"),
            segment=read.maybe_text("segment"),
            sampling=dict(read.mapping("sampling")),
            usage=dict(read.mapping("usage")),
            timestamp=read.maybe_text("timestamp"),
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    call_id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a tool call, as the model was shown it."""

    call_id: str
    content: str


@dataclass(frozen=True, slots=True)
class Step:
    """A message of the session; one of the agent may have tool calls, their results, and the call that sampled it."""

    source: Source
    message: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    observations: tuple[Observation, ...] = ()
    call: Call | None = None
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Calls whose prompts each extend the one before: a prompt, and the completion that a trainer learns from."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    completion_mask: tuple[int, ...]
    """1 where the model sampled the token, 0 where the token came from a tool, a user or the template."""
    logprobs: tuple[float | None, ...] | None
    """0.0 where the mask is 0, None for a sampled token without one; None instead of the tuple if no token has one."""
    calls: tuple[int, ...]
    """The places of its calls in the list that was merged."""
    reason: str | None = None
    """Why it began, in the provider's words."""

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt_ids + self.completion_ids

    @property
    def sampled(self) -> int:
        """The number of tokens that the model sampled."""
        return sum(self.completion_mask)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One session, or one sub-agent's session, which names its parent."""

    session_id: str
    steps: tuple[Step, ...]
    parent_session_id: str | None = None
    agent_name: str = "amplifier"
    agent_version: str = ""
    model: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    """The tools of the session, each `{"type": "function", "function": {"name", "description", "parameters"}}`."""
    reward: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(step.call for step in self.steps if step.call is not None)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return merge(self.calls)

    def with_reward(self, reward: float | None) -> "Trajectory":
        return replace(self, reward=reward)


def merge(calls: Iterable[Call]) -> tuple[Segment, ...]:
    """Join calls by exact prefix: a call extends the latest segment that its prompt starts with, or begins one."""
    segments: list[Segment] = []
    for index, call in enumerate(calls):
        _add(segments, _segment(call, index))
    return tuple(segments)


def join(left: Iterable[Segment], right: Iterable[Segment]) -> tuple[Segment, ...]:
    """The segments of two halves of a session: the same as merging all of its calls."""
    segments = list(left)
    behind = sum(len(segment.calls) for segment in segments)
    for segment in right:
        _add(segments, replace(segment, calls=tuple(index + behind for index in segment.calls)))
    return tuple(segments)


def _segment(call: Call, index: int) -> Segment:
    mask = (1,) * len(call.token_ids)
    return Segment(call.prompt_token_ids, call.token_ids, mask, call.logprobs or None, (index,), call.segment)


def _add(segments: list[Segment], new: Segment) -> None:
    # A session's other calls (a name for it, a summary) stand between those of its conversation.
    places = [place for place, segment in enumerate(segments) if _extends(new, segment)]
    if not places:
        segments.append(new)
        return
    latest = max(places, key=lambda place: segments[place].calls[-1])
    segments[latest] = _joined(segments[latest], new)


def _extends(new: Segment, segment: Segment) -> bool:
    if segment.calls[-1] > new.calls[0]:
        return False
    split, end = len(segment.prompt_ids), len(segment.prompt_ids) + len(segment.completion_ids)
    if len(new.prompt_ids) < end:
        return False
    return new.prompt_ids[split:end] == segment.completion_ids and new.prompt_ids[:split] == segment.prompt_ids


def _joined(segment: Segment, new: Segment) -> Segment:
    between = new.prompt_ids[len(segment.prompt_ids) + len(segment.completion_ids) :]
    logprobs = None
    if segment.logprobs is not None or new.logprobs is not None:
        logprobs = _filled(segment) + (0.0,) * len(between) + _filled(new)
    return replace(
        segment,
        completion_ids=segment.completion_ids + between + new.completion_ids,
        completion_mask=segment.completion_mask + (0,) * len(between) + new.completion_mask,
        logprobs=logprobs,
        calls=segment.calls + new.calls,
    )


def _filled(segment: Segment) -> tuple[float | None, ...]:
    if segment.logprobs is not None:
        return segment.logprobs
    return tuple(None if sampled else 0.0 for sampled in segment.completion_mask)
