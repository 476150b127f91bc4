"""ATIF: the object of a session, and reading it back."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from amplifier_module_provider_vllm.rl import Observation, Step, Trajectory, from_atif, to_atif
from tests.support.trajectories import SESSION, TOOL, sessions


def test_a_session_is_one_object() -> None:
    written = to_atif(replace(SESSION, parent_session_id="session-0", extra={"task": 3}))

    assert written == {
        "schema_version": "ATIF-v1.7",
        "session_id": "session-1",
        "trajectory_id": "session-1",
        "agent": {"name": "amplifier", "version": "1.0", "model_name": "tiny-qwen3", "tool_definitions": [TOOL]},
        "steps": [
            {"step_id": 1, "source": "system", "message": "Be brief."},
            {"step_id": 2, "source": "user", "message": "Is it warm in Paris?"},
            {
                "step_id": 3,
                "source": "agent",
                "model_name": "tiny-qwen3",
                "message": "",
                "reasoning_content": "I need the weather.",
                "tool_calls": [
                    {"tool_call_id": "call-1", "function_name": "get_weather", "arguments": {"city": "Paris"}}
                ],
                "observation": {"results": [{"source_call_id": "call-1", "content": "21 °C"}]},
                "metrics": {
                    "prompt_tokens": 2,
                    "completion_tokens": 2,
                    "cached_tokens": 1,
                    "prompt_token_ids": [1, 2],
                    "completion_token_ids": [3, 4],
                    "logprobs": [-0.5, -0.25],
                    "extra": {
                        "finish_reason": "tool_calls",
                        "endpoint": "chat",
                        "request_id": "req-1",
                        "response_id": "chatcmpl-1",
                        "call_index": 1,
                        "policy_version": "7",
                        "token_in": True,
                        "segment": "first call",
                        "sampling": {"temperature": 1.0},
                        "usage": {"input_tokens": 2, "output_tokens": 2, "cache_read_tokens": 1},
                        "timestamp": "2026-11-22T01:02:03+00:00",
                    },
                },
                "llm_call_count": 1,
            },
            {
                "step_id": 4,
                "source": "agent",
                "model_name": "tiny-qwen3",
                "message": "Yes, 21 °C.",
                "metrics": {
                    "prompt_tokens": 6,
                    "completion_tokens": 2,
                    "prompt_token_ids": [1, 2, 3, 4, 8, 9],
                    "completion_token_ids": [5, 6],
                    "logprobs": [-0.125, -1.0],
                    "extra": {
                        "finish_reason": "stop",
                        "endpoint": "chat",
                        "call_index": 0,
                        "token_in": True,
                        "sampling": {},
                        "usage": {},
                    },
                },
                "llm_call_count": 1,
            },
        ],
        "final_metrics": {
            "total_prompt_tokens": 8,
            "total_completion_tokens": 4,
            "total_cached_tokens": 1,
            "total_steps": 4,
        },
        "extra": {"task": 3, "reward": 1.0, "parent_session_id": "session-0"},
    }


@given(sessions())
def test_a_session_comes_back_as_it_was_written(session: Trajectory) -> None:
    assert from_atif(json.loads(json.dumps(to_atif(session)))) == session


def test_a_result_of_no_call_in_its_step_keeps_its_id_where_atif_allows_it() -> None:
    session = Trajectory("s", (Step("agent", "", observations=(Observation("call-0", "late"),)),))

    written = to_atif(session)

    results = written["steps"][0]["observation"]["results"]
    assert results == [{"extra": {"source_call_id": "call-0"}, "content": "late"}]
    assert from_atif(written) == session


def test_a_session_without_steps_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="session 's' has no steps"):
        to_atif(Trajectory("s", ()))


def test_an_extra_that_would_hide_the_reward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^extra\.reward: set the trajectory's own reward instead"):
        to_atif(replace(SESSION, extra={"reward": 2}))


def test_the_counts_of_another_program_become_usage() -> None:
    written = to_atif(SESSION)
    metrics = written["steps"][2]["metrics"]
    del metrics["extra"]

    (first, _) = from_atif(written).calls

    assert first.usage == {"input_tokens": 2, "output_tokens": 2, "cache_read_tokens": 1}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schema_version"], "v2", "schema_version: ATIF-v1.7 is needed; it is 'v2'"),
        (["session_id"], None, "session_id: a text is needed; it is None"),
        (["trajectory_id"], "other", "trajectory_id: the same id as session_id is needed; it is 'other'"),
        (["notes"], "mine", "notes: this key cannot be kept, take it out; it is 'mine'"),
        (["agent"], 3, "agent: an object is needed, not 3"),
        (["steps"], {}, "steps: a list is needed; it is {}"),
        (["steps"], [], "steps: at least one step is needed; it is []"),
        (["steps", 1], "Hi", "steps[1]: an object is needed, not 'Hi'"),
        (["steps", 1, "source"], "tool", "steps[1].source: one of system, user, agent is needed; it is 'tool'"),
        (["steps", 1, "message"], [], "steps[1].message: a text is needed; it is []"),
        (["steps", 2, "metrics", "cost_usd"], 1, "steps[2].metrics.cost_usd: this key cannot be kept, take it out"),
        (["steps", 2, "metrics", "prompt_token_ids"], None, "steps[2].metrics.prompt_token_ids: a list of token ids"),
        (["steps", 2, "metrics", "logprobs"], [-1.0], "steps[2].metrics.logprobs: 2 log probabilities"),
        (["steps", 2, "tool_calls", 0, "arguments"], "{}", "steps[2].tool_calls[0].arguments: an object is needed"),
        (["extra", "reward"], "high", "extra.reward: a finite number is needed; it is 'high'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(path: list[Any], value: Any, message: str) -> None:
    written = to_atif(SESSION)
    inner: Any = written
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value

    with pytest.raises(ValueError) as refused:  # noqa: PT011
        from_atif(written)

    assert str(refused.value).startswith(message)
