"""Give a trajectory the field names of a trainer: TRL, verl, SkyRL, slime, Agent Lightning, verifiers and NeMo-Gym.

Dicts only: no trainer is imported. Where a trainer has no way to say "no log probability", a missing one is an error.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .trajectory import Call, Observation, Segment, Step, Trajectory


def trl_sft(trajectory: Trajectory) -> list[dict[str, Any]]:
    """Rows of a pre-tokenized data set for `SFTTrainer`, one a segment."""
    return [_trl_sft(segment) for segment in trajectory.segments]


def trl_rollouts(trajectories: Iterable[Trajectory]) -> dict[str, list[Any]]:
    """What a `rollout_func` of `GRPOTrainer` returns, one entry a segment; `reward` reaches the reward functions."""
    pairs = _segments(trajectories)
    return {
        "prompt_ids": [list(segment.prompt_ids) for _, segment in pairs],
        "completion_ids": [list(segment.completion_ids) for _, segment in pairs],
        "logprobs": [_needed(trajectory, segment, "TRL") for trajectory, segment in pairs],
        "env_mask": [list(segment.completion_mask) for _, segment in pairs],
        "reward": [trajectory.reward for trajectory, _ in pairs],
    }


def verl_outputs(trajectory: Trajectory) -> list[dict[str, Any]]:
    """The fields of verl's `AgentLoopOutput`, one a segment."""
    return [
        {
            "prompt_ids": list(segment.prompt_ids),
            "response_ids": list(segment.completion_ids),
            "response_mask": list(segment.completion_mask),
            "response_logprobs": _whole(segment.logprobs),
            "reward_score": trajectory.reward,
            # verl counts each reply, and each message that it answers.
            "num_turns": 2 * len(segment.calls),
            "metrics": {},
            "extra_fields": {"session_id": trajectory.session_id, "segment": number},
        }
        for number, segment in enumerate(trajectory.segments)
    ]


def skyrl_output(trajectories: Iterable[Trajectory]) -> dict[str, Any]:
    """SkyRL's `GeneratorOutput`, one entry a segment; `TrajectoryID(**each)` makes its `trajectory_ids`."""
    pairs = _segments(trajectories)
    logprobs = [_whole(segment.logprobs) for _, segment in pairs]
    reasons = [_last_call(trajectory, segment).finish_reason for trajectory, segment in pairs]
    return {
        "prompt_token_ids": [list(segment.prompt_ids) for _, segment in pairs],
        "response_ids": [list(segment.completion_ids) for _, segment in pairs],
        "rewards": [_reward(trajectory, "SkyRL") for trajectory, _ in pairs],
        "loss_masks": [list(segment.completion_mask) for _, segment in pairs],
        "stop_reasons": None if None in reasons else reasons,
        "rollout_metrics": None,
        "rollout_logprobs": None if None in logprobs else logprobs,
        "trajectory_ids": [{"instance_id": each.session_id, "repetition_id": 0} for each, _ in pairs],
    }


def slime_samples(trajectory: Trajectory) -> list[dict[str, Any]]:
    """The fields of slime's `Sample`, for `Sample.from_dict`, one a segment."""
    calls = trajectory.calls
    return [
        {
            "tokens": list(segment.ids),
            "response_length": len(segment.completion_ids),
            "loss_mask": list(segment.completion_mask),
            "rollout_log_probs": _whole(segment.logprobs),
            "reward": trajectory.reward,
            "status": "truncated" if _last_call(trajectory, segment).finish_reason == "length" else "completed",
            "weight_versions": [version for place in segment.calls if (version := calls[place].policy_version)],
            "session_id": trajectory.session_id,
            "metadata": {"segment": number},
        }
        for number, segment in enumerate(trajectory.segments)
    ]


def agent_lightning_events(trajectory: Trajectory) -> list[dict[str, Any]]:
    """Events for Agent Lightning 1.x (`POST …/attempt/…/events`): one a call, then the reward.

    Its trainer merges calls by prefix itself, and keeps only the last of calls with equal prompts.
    """
    events = [{"event_type": "model_request", "data": _model_request(call)} for call in trajectory.calls]
    if trajectory.reward is not None:
        events.append({"event_type": "reward", "data": {"value": trajectory.reward}})
    return events


def verifiers_trace(trajectory: Trajectory) -> dict[str, Any]:
    """A trace for `WireTrace.model_validate` of verifiers: each segment is a branch."""
    prompt = next((step.message for step in trajectory.steps if step.source == "user"), "")
    return {
        "task": {"type": "Amplifier", "data": {"idx": 0, "name": trajectory.session_id, "prompt": prompt}},
        "agent": {"name": trajectory.agent_name, "model": trajectory.model, "config": {}},
        "tools": [dict(tool["function"]) for tool in trajectory.tools if "function" in tool],
        "nodes": _nodes(trajectory),
        "rewards": {} if trajectory.reward is None else {"reward": {"score": trajectory.reward}},
        "info": {"session_id": trajectory.session_id, "parent_session_id": trajectory.parent_session_id},
        "is_completed": True,
        "ok": True,
    }


def nemo_gym_items(trajectory: Trajectory) -> list[dict[str, Any]]:
    """The session as NeMo-Gym's Responses items; the last item of each call has its tokens."""
    return [item for number, step in enumerate(trajectory.steps, 1) for item in _items(trajectory, number, step)]


def _trl_sft(segment: Segment) -> dict[str, Any]:
    mask = [0] * len(segment.prompt_ids) + list(segment.completion_mask)
    # TRL leaves `completion_mask` unread unless `completion_only_loss` is set; `assistant_masks` it always reads.
    return {"input_ids": list(segment.ids), "completion_mask": mask, "assistant_masks": mask}


def _model_request(call: Call) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "token_ids": list(call.token_ids), "finish_reason": call.finish_reason}
    if call.logprobs is not None:
        choice["logprobs"] = {"content": [{"logprob": logprob} for logprob in call.logprobs]}
    response = {"id": call.response_id, "prompt_token_ids": list(call.prompt_token_ids), "choices": [choice]}
    server: dict[str, Any] = {"model": call.model}
    if call.policy_version is not None:
        version = call.policy_version
        server["version"] = int(version) if version.isdecimal() else version
    return {
        "model": call.model,
        "request": dict(call.sampling),
        "response": response,
        "server": server,
        "http_status": 200,
        "status": "ok",
    }


def _nodes(trajectory: Trajectory) -> list[dict[str, Any]]:
    steps = trajectory.steps
    replies = [place for place, step in enumerate(steps) if step.call is not None]
    nodes: list[dict[str, Any]] = []
    for segment in trajectory.segments:
        parent, known, start = None, 0, 0
        results: list[dict[str, Any]] = []
        for place in (replies[index] for index in segment.calls):
            messages = results + [message for step in steps[start:place] for message in _messages(step)]
            for node in _call_nodes(trajectory, steps[place], messages, known):
                nodes.append({"parent": parent, **node})
                parent, known = len(nodes) - 1, known + len(node["token_ids"])
            results, start = [_result(each) for each in steps[place].observations], place + 1
    return nodes


def _call_nodes(
    trajectory: Trajectory, step: Step, messages: Sequence[Mapping[str, Any]], known: int
) -> Iterator[dict[str, Any]]:
    """The messages since the call before, of which the first has the tokens of all, and the reply."""
    call = step.call
    if call is None or call.logprobs is None:
        raise _missing(trajectory, "verifiers")
    between, sampled = list(call.prompt_token_ids[known:]), list(call.token_ids)
    for message in messages:
        yield {"message": message, "token_ids": between, "mask": [False] * len(between)}
        between = []
    yield {
        "message": _assistant(step),
        "sampled": True,
        "token_ids": between + sampled,
        "mask": [False] * len(between) + [True] * len(sampled),
        "logprobs": list(call.logprobs),
    }


def _messages(step: Step) -> list[dict[str, Any]]:
    said = _assistant(step) if step.source == "agent" else {"role": step.source, "content": step.message}
    return [said, *(_result(each) for each in step.observations)]


def _assistant(step: Step) -> dict[str, Any]:
    calls = [{"id": each.call_id, "name": each.name, "arguments": _json(each.arguments)} for each in step.tool_calls]
    return {
        "role": "assistant",
        "content": step.message,
        "reasoning_content": step.reasoning,
        "tool_calls": calls or None,
    }


def _result(observation: Observation) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": observation.call_id, "content": observation.content}


def _items(trajectory: Trajectory, number: int, step: Step) -> Iterator[dict[str, Any]]:
    if step.source == "agent":
        *items, last = _reply_items(number, step)
        yield from items
        yield last if step.call is None else last | _tokens(trajectory, step.call)
    else:
        yield {"type": "message", "role": step.source, "content": step.message}
    for each in step.observations:
        yield {"type": "function_call_output", "call_id": each.call_id, "output": each.content}


def _reply_items(number: int, step: Step) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if step.reasoning is not None:
        summary = [{"type": "summary_text", "text": step.reasoning}]
        items.append({"type": "reasoning", "id": f"rs_{number}", "summary": summary})
    if step.message or not (items or step.tool_calls):
        cut = step.call is not None and step.call.finish_reason == "length"
        text = {"type": "output_text", "text": step.message, "annotations": []}
        status = {"status": "incomplete" if cut else "completed"}
        items.append({"type": "message", "id": f"msg_{number}", "role": "assistant", "content": [text], **status})
    for each in step.tool_calls:
        call = {"call_id": each.call_id, "name": each.name, "arguments": _json(each.arguments)}
        items.append({"type": "function_call", **call})
    return items


def _tokens(trajectory: Trajectory, call: Call) -> dict[str, Any]:
    if call.logprobs is None:
        raise _missing(trajectory, "NeMo-Gym")
    return {
        "prompt_token_ids": list(call.prompt_token_ids),
        "generation_token_ids": list(call.token_ids),
        "generation_log_probs": list(call.logprobs),
    }


def _segments(trajectories: Iterable[Trajectory]) -> list[tuple[Trajectory, Segment]]:
    return [(trajectory, segment) for trajectory in trajectories for segment in trajectory.segments]


def _last_call(trajectory: Trajectory, segment: Segment) -> Call:
    return trajectory.calls[segment.calls[-1]]


def _whole(logprobs: Sequence[float | None] | None) -> list[float] | None:
    """None if one is missing: these trainers take a number for each token, or no list."""
    numbers = [logprob for logprob in logprobs or () if logprob is not None]
    return None if logprobs is None or len(numbers) < len(logprobs) else numbers


def _needed(trajectory: Trajectory, segment: Segment, trainer: str) -> list[float]:
    logprobs = _whole(segment.logprobs)
    if logprobs is None and segment.sampled:
        raise _missing(trajectory, trainer)
    return logprobs or [0.0] * len(segment.completion_ids)


def _missing(trajectory: Trajectory, trainer: str) -> ValueError:
    said = f"session {trajectory.session_id!r} has sampled tokens without log probabilities, which {trainer} needs"
    return ValueError(f"{said}; record it with return_token_ids at a server that gives them")


def _reward(trajectory: Trajectory, trainer: str) -> float:
    if trajectory.reward is None:
        raise ValueError(
            f"session {trajectory.session_id!r} has no reward, which {trainer} needs; set one with with_reward"
        )
    return trajectory.reward


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
