"""What a trajectory's calls did with their tokens, and what is wrong with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..rl.trajectory import Call, Segment, Step, Trajectory

NOT_TOLD = "the file does not say why"


@dataclass(frozen=True, slots=True)
class CallSummary:
    """One model call; numbers of calls and segments begin with 1."""

    number: int
    call: Call
    step: Step
    reused: int
    """Tokens with which the prompt begins as the call before it ended: those that a prefix cache has."""
    masked: int
    """Tokens of the segment's completion that the model did not sample: what stands between it and the call before."""
    segment: int
    begins: str | None
    """Why a segment begins here; None if it goes on."""

    @property
    def new(self) -> tuple[int, ...]:
        """The prompt behind what is reused."""
        return self.call.prompt_token_ids[self.reused :]


@dataclass(frozen=True, slots=True)
class SessionSummary:
    trajectory: Trajectory
    calls: tuple[CallSummary, ...]
    segments: int
    findings: tuple[str, ...]

    @property
    def sampled(self) -> int:
        return sum(len(each.call.token_ids) for each in self.calls)

    @property
    def masked(self) -> int:
        return sum(each.masked for each in self.calls)

    @property
    def title(self) -> str:
        session = self.trajectory
        parent = [] if session.parent_session_id is None else [f"part of {session.parent_session_id}"]
        return f"session {session.session_id}: {', '.join([*parent, session.model or 'model not told'])}"

    @property
    def totals(self) -> str:
        reward = self.trajectory.reward
        return ", ".join(
            [
                counted(len(self.calls), "call"),
                counted(self.segments, "segment"),
                f"{self.sampled:,} tokens sampled",
                f"{self.masked:,} masked",
                f"logprobs of {self._logprobs()}",
                "no reward" if reward is None else f"reward {reward:g}",
            ]
        )

    def _logprobs(self) -> str:
        sampling = [each for each in self.calls if each.call.token_ids]
        given = sum(each.call.logprobs is not None for each in sampling)
        return "none" if given == 0 else "all" if given == len(sampling) else f"{given} of {len(sampling)} calls"


def summarize(trajectory: Trajectory) -> SessionSummary:
    segments = trajectory.segments
    steps = [step for step in trajectory.steps if step.call is not None]
    calls = _summaries(steps, trajectory.calls, segments)
    findings = [f"call {each.number}: {finding}" for each in calls for finding in _call_findings(each)]
    findings += _mask_findings(trajectory.calls, segments)
    findings += _order_findings(trajectory.calls)
    return SessionSummary(trajectory, calls, len(segments), tuple(findings))


def repeated_sessions(sessions: Sequence[SessionSummary]) -> Iterator[str]:
    """A finding for each id that more than one trajectory has."""
    ids = [each.trajectory.session_id for each in sessions]
    for session_id in dict.fromkeys(ids):
        if (times := ids.count(session_id)) > 1:
            yield f"session {session_id} is in it {times} times"


def counted(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _summaries(steps: Sequence[Step], calls: Sequence[Call], segments: Sequence[Segment]) -> tuple[CallSummary, ...]:
    place = {index: (number, order) for number, one in enumerate(segments) for order, index in enumerate(one.calls)}
    summaries: list[CallSummary] = []
    for index, (step, call) in enumerate(zip(steps, calls, strict=True)):
        number, order = place[index]
        if order:
            before = calls[segments[number].calls[order - 1]]
            reused, begins = len(before.prompt_token_ids) + len(before.token_ids), None
        else:
            reused = _common(calls[index - 1], call) if index else 0
            begins = call.segment or ("first call" if index == 0 else NOT_TOLD)
        masked = len(call.prompt_token_ids) - reused if order else 0
        summaries.append(CallSummary(index + 1, call, step, reused, masked, number + 1, begins))
    return tuple(summaries)


def _common(before: Call, call: Call) -> int:
    """How many tokens the prompt shares with the prompt and reply of the call before."""
    ids, prompt = before.prompt_token_ids + before.token_ids, call.prompt_token_ids
    shorter = min(len(ids), len(prompt))
    return next((place for place in range(shorter) if ids[place] != prompt[place]), shorter)


def _call_findings(summary: CallSummary) -> Iterator[str]:
    call = summary.call
    if not call.prompt_token_ids:
        yield "its prompt has no tokens"
    if summary.begins == NOT_TOLD and call.endpoint:  # other programs, and training rows, never say why
        yield f"its prompt goes on from no call before it, and {NOT_TOLD} ({summary.reused:,} tokens agree)"
    if call.logprobs is not None:
        above = [place for place, logprob in enumerate(call.logprobs) if logprob > 0]
        if above:
            yield f"the log probability of token {above[0] + 1} is {call.logprobs[above[0]]:g}, above 0"
    for key, ids in (("input_tokens", call.prompt_token_ids), ("output_tokens", call.token_ids)):
        count: object = call.usage.get(key)
        if isinstance(count, int) and count != len(ids):
            yield f"usage.{key} is {count:,}, but the file has {len(ids):,} ids"


def _mask_findings(calls: Sequence[Call], segments: Sequence[Segment]) -> Iterator[str]:
    for number, segment in enumerate(segments, 1):
        sampled = sum(len(calls[index].token_ids) for index in segment.calls)
        if segment.sampled != sampled:
            yield f"segment {number}: its mask has {segment.sampled:,} tokens, but its calls sampled {sampled:,}"


def _order_findings(calls: Sequence[Call]) -> Iterator[str]:
    for number, (before, call) in enumerate(pairwise(calls), 2):
        if call.request_id is not None and call.request_id == before.request_id:
            if call.call_index <= before.call_index:
                yield f"call {number}: it is number {call.call_index} of its request, after number {before.call_index}"
        elif call.request_id is not None and call.call_index:
            yield f"call {number}: it is the first of its request here, but its number is {call.call_index}, not 0"
