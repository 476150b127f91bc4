"""Write a trajectory as ATIF-v1.7, harbor's Agent Trajectory Interchange Format: one object a session; and read it."""

from collections.abc import Mapping
from typing import Any, Final

from .fields import Fields
from .trajectory import SOURCES, Call, Observation, Step, ToolCall, Trajectory

SCHEMA: Final = "ATIF-v1.7"
ROOT_KEYS: Final = ("schema_version", "session_id", "trajectory_id", "agent", "steps", "final_metrics", "extra")
AGENT_KEYS: Final = ("name", "version", "model_name", "tool_definitions")
STEP_KEYS: Final = ("step_id", "timestamp", "source", "model_name", "message", "reasoning_content", "tool_calls",
                    "observation", "metrics", "llm_call_count", "extra")  # fmt: skip
METRIC_KEYS: Final = ("prompt_tokens", "completion_tokens", "cached_tokens", "prompt_token_ids", "completion_token_ids",
                      "logprobs", "extra")  # fmt: skip
CALL_KEYS: Final = ("finish_reason", "endpoint", "request_id", "response_id", "call_index", "policy_version",
                    "token_in", "segment", "sampling", "usage", "timestamp")  # fmt: skip
TOTALS: Final = ("total_prompt_tokens", "total_completion_tokens", "total_cached_tokens", "total_steps")
OUR_EXTRAS: Final = ("reward", "parent_session_id")
"""Keys of the root's `extra` that are fields of a trajectory."""


def to_atif(trajectory: Trajectory) -> dict[str, Any]:
    """The object of one session. A sub-agent's names its parent in `extra.parent_session_id`."""
    if not trajectory.steps:
        raise ValueError(f"session {trajectory.session_id!r} has no steps: ATIF needs at least one")
    taken = [key for key in OUR_EXTRAS if key in trajectory.extra]
    if taken:
        raise ValueError(f"extra.{taken[0]}: set the trajectory's own {taken[0]} instead")
    ours = {"reward": trajectory.reward, "parent_session_id": trajectory.parent_session_id}
    return {
        "schema_version": SCHEMA,
        "session_id": trajectory.session_id,
        "trajectory_id": trajectory.session_id,
        "agent": _present(
            name=trajectory.agent_name,
            version=trajectory.agent_version,
            model_name=trajectory.model,
            tool_definitions=list(trajectory.tools) or None,
        ),
        "steps": [_step(number, step) for number, step in enumerate(trajectory.steps, 1)],
        "final_metrics": _totals(trajectory),
        "extra": {**trajectory.extra, **_present(**ours)},
    }


def from_atif(data: Mapping[str, Any]) -> Trajectory:
    """The session of one object. Raises `ValueError` that names the key: for a wrong value, and for one not kept."""
    read = Fields(data)
    if not read.text("schema_version").startswith("ATIF-v1."):
        raise read.error("schema_version", f"{SCHEMA} is needed")
    read.refuse_others(ROOT_KEYS)
    read.inner("final_metrics").refuse_others(TOTALS)
    session_id = read.text("session_id")
    if read.maybe_text("trajectory_id") not in (None, session_id):
        raise read.error("trajectory_id", "the same id as session_id is needed")
    steps = read.objects("steps")
    if not steps:
        raise read.error("steps", "at least one step is needed")
    agent, extra = read.inner("agent"), read.inner("extra")
    agent.refuse_others(AGENT_KEYS)
    return Trajectory(
        session_id=session_id,
        steps=tuple(map(_read_step, steps)),
        parent_session_id=extra.maybe_text("parent_session_id"),
        agent_name=agent.text("name"),
        agent_version=agent.text("version"),
        model=agent.maybe_text("model_name") or "",
        tools=tuple(tool.all() for tool in agent.objects("tool_definitions")),
        reward=extra.maybe_number("reward"),
        extra={key: value for key, value in extra.all().items() if key not in OUR_EXTRAS},
    )


def _step(number: int, step: Step) -> dict[str, Any]:
    call, call_ids = step.call, {tool_call.call_id for tool_call in step.tool_calls}
    return _present(
        step_id=number,
        timestamp=step.timestamp,
        source=step.source,
        model_name=None if call is None else call.model,
        message=step.message,
        reasoning_content=step.reasoning,
        tool_calls=[
            {"tool_call_id": each.call_id, "function_name": each.name, "arguments": dict(each.arguments)}
            for each in step.tool_calls
        ]
        or None,
        observation={"results": [_result(each, call_ids) for each in step.observations]} if step.observations else None,
        metrics=None if call is None else _metrics(call),
        llm_call_count=None if call is None else 1,
    )


def _result(observation: Observation, call_ids: set[str]) -> dict[str, Any]:
    # A source_call_id must be a tool call of the same step.
    key = {"source_call_id": observation.call_id}
    return {**(key if observation.call_id in call_ids else {"extra": key}), "content": observation.content}


def _metrics(call: Call) -> dict[str, Any]:
    return _present(
        prompt_tokens=len(call.prompt_token_ids),
        completion_tokens=len(call.token_ids),
        cached_tokens=_cached(call),
        prompt_token_ids=list(call.prompt_token_ids),
        completion_token_ids=list(call.token_ids),
        logprobs=None if call.logprobs is None else list(call.logprobs),
        extra=_present(
            finish_reason=call.finish_reason,
            endpoint=call.endpoint,
            request_id=call.request_id,
            response_id=call.response_id,
            call_index=call.call_index,
            policy_version=call.policy_version,
            token_in=call.token_in,
            segment=call.segment,
            sampling=dict(call.sampling),
            usage=dict(call.usage),
            timestamp=call.timestamp,
        ),
    )


def _cached(call: Call) -> int | None:
    tokens = call.usage.get("cache_read_tokens")
    return tokens if isinstance(tokens, int) else None


def _totals(trajectory: Trajectory) -> dict[str, Any]:
    calls = trajectory.calls
    cached = [tokens for call in calls if (tokens := _cached(call)) is not None]
    return _present(
        total_prompt_tokens=sum(len(call.prompt_token_ids) for call in calls),
        total_completion_tokens=sum(len(call.token_ids) for call in calls),
        total_cached_tokens=sum(cached) if cached else None,
        total_steps=len(trajectory.steps),
    )


def _read_step(read: Fields) -> Step:
    read.refuse_others(STEP_KEYS)
    read.inner("extra").refuse_others(())
    source = read.text("source")
    if source not in SOURCES:
        raise read.error("source", f"one of {', '.join(SOURCES)} is needed")
    observation = read.inner("observation")
    observation.refuse_others(("results",))
    return Step(
        source=source,
        message=read.text("message"),
        reasoning=read.maybe_text("reasoning_content"),
        tool_calls=tuple(map(_read_tool_call, read.objects("tool_calls"))),
        observations=tuple(map(_read_result, observation.objects("results"))),
        call=_read_call(read) if read.has("metrics") else None,
        timestamp=read.maybe_text("timestamp"),
    )


def _read_tool_call(read: Fields) -> ToolCall:
    read.refuse_others(("tool_call_id", "function_name", "arguments"))
    return ToolCall(read.text("tool_call_id"), read.text("function_name"), dict(read.mapping("arguments")))


def _read_result(read: Fields) -> Observation:
    read.refuse_others(("source_call_id", "content", "extra"))
    extra = read.inner("extra")
    extra.refuse_others(("source_call_id",))
    named = read if read.has("source_call_id") else extra
    return Observation(named.text("source_call_id"), read.text("content"))


def _read_call(step: Fields) -> Call:
    read = step.inner("metrics")
    read.refuse_others(METRIC_KEYS)
    extra = read.inner("extra")
    extra.refuse_others(CALL_KEYS)
    ids, logprobs = read.ids("completion_token_ids"), read.maybe_logprobs("logprobs")
    if logprobs is not None and len(logprobs) != len(ids):
        raise read.error("logprobs", f"{len(ids)} log probabilities, one for each token, are needed")
    return Call(
        prompt_token_ids=read.ids("prompt_token_ids"),
        token_ids=ids,
        logprobs=logprobs,
        finish_reason=extra.maybe_text("finish_reason"),
        model=step.maybe_text("model_name") or "",
        endpoint=extra.maybe_text("endpoint") or "",
        request_id=extra.maybe_text("request_id"),
        response_id=extra.maybe_text("response_id"),
        call_index=extra.maybe_whole("call_index") or 0,
        policy_version=extra.maybe_text("policy_version"),
        token_in=extra.flag("token_in"),
        segment=extra.maybe_text("segment"),
        sampling=dict(extra.mapping("sampling")),
        usage=dict(extra.mapping("usage")) if extra.has("usage") else _usage(read),
        timestamp=extra.maybe_text("timestamp"),
    )


def _usage(read: Fields) -> dict[str, Any]:
    """The counts of a file that another program wrote."""
    counts = {
        "input_tokens": "prompt_tokens",
        "output_tokens": "completion_tokens",
        "cache_read_tokens": "cached_tokens",
    }
    return _present(**{ours: read.maybe_whole(theirs) for ours, theirs in counts.items()})


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
