"""The dicts of each trainer, made of one session with two calls."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from amplifier_module_provider_vllm.rl import (
    Call,
    Step,
    Trajectory,
    agent_lightning_events,
    nemo_gym_items,
    skyrl_output,
    slime_samples,
    trl_rollouts,
    trl_sft,
    verifiers_trace,
    verl_outputs,
)
from tests.support.trajectories import SESSION, conversations

IDS = [1, 2, 3, 4, 8, 9, 5, 6]
PROMPT, COMPLETION = IDS[:2], IDS[2:]
MASK = [1, 1, 0, 0, 1, 1]
LOGPROBS = [-0.5, -0.25, 0.0, 0.0, -0.125, -1.0]
UNSCORED = Trajectory("s", (Step("user", "Hi"), Step("agent", "Ho", call=Call((1,), (2,)))))

TOOL_CALL = {"id": "call-1", "name": "get_weather", "arguments": '{"city": "Paris"}'}


def test_trl_reads_segments_as_a_data_set() -> None:
    assert trl_sft(SESSION) == [
        {"input_ids": IDS, "completion_mask": [0, 0, *MASK], "assistant_masks": [0, 0, *MASK]},
    ]


def test_trl_reads_sessions_as_rollouts() -> None:
    assert trl_rollouts([SESSION, replace(SESSION, reward=None)]) == {
        "prompt_ids": [PROMPT, PROMPT],
        "completion_ids": [COMPLETION, COMPLETION],
        "logprobs": [LOGPROBS, LOGPROBS],
        "env_mask": [MASK, MASK],
        "reward": [1.0, None],
    }


def test_verl_reads_outputs_of_an_agent_loop() -> None:
    assert verl_outputs(SESSION) == [
        {
            "prompt_ids": PROMPT,
            "response_ids": COMPLETION,
            "response_mask": MASK,
            "response_logprobs": LOGPROBS,
            "reward_score": 1.0,
            "num_turns": 4,
            "metrics": {},
            "extra_fields": {"session_id": "session-1", "segment": 0},
        }
    ]


def test_skyrl_reads_one_output_of_a_batch() -> None:
    assert skyrl_output([SESSION]) == {
        "prompt_token_ids": [PROMPT],
        "response_ids": [COMPLETION],
        "rewards": [1.0],
        "loss_masks": [MASK],
        "stop_reasons": ["stop"],
        "rollout_metrics": None,
        "rollout_logprobs": [LOGPROBS],
        "trajectory_ids": [{"instance_id": "session-1", "repetition_id": 0}],
    }


def test_slime_reads_samples() -> None:
    assert slime_samples(SESSION) == [
        {
            "tokens": IDS,
            "response_length": 6,
            "loss_mask": MASK,
            "rollout_log_probs": LOGPROBS,
            "reward": 1.0,
            "status": "completed",
            "weight_versions": ["7"],
            "session_id": "session-1",
            "metadata": {"segment": 0},
        }
    ]


def test_slime_is_told_of_a_cut_reply() -> None:
    cut = Trajectory("s", (Step("agent", "Ho", call=Call((1,), (2,), finish_reason="length")),))

    assert slime_samples(cut)[0]["status"] == "truncated"


def test_agent_lightning_reads_calls_and_a_reward() -> None:
    first, second, reward = agent_lightning_events(SESSION)

    assert first == {
        "event_type": "model_request",
        "data": {
            "model": "tiny-qwen3",
            "request": {"temperature": 1.0},
            "response": {
                "id": "chatcmpl-1",
                "prompt_token_ids": [1, 2],
                "choices": [
                    {
                        "index": 0,
                        "token_ids": [3, 4],
                        "finish_reason": "tool_calls",
                        "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]},
                    }
                ],
            },
            "server": {"model": "tiny-qwen3", "version": 7},
            "http_status": 200,
            "status": "ok",
        },
    }
    assert second["data"]["response"]["prompt_token_ids"] == [1, 2, 3, 4, 8, 9]
    assert reward == {"event_type": "reward", "data": {"value": 1.0}}


def test_verifiers_reads_a_branch_of_nodes() -> None:
    trace = verifiers_trace(SESSION)

    assert trace["nodes"] == [
        {
            "parent": None,
            "message": {"role": "system", "content": "Be brief."},
            "token_ids": [1, 2],
            "mask": [False] * 2,
        },
        {"parent": 0, "message": {"role": "user", "content": "Is it warm in Paris?"}, "token_ids": [], "mask": []},
        {
            "parent": 1,
            "message": {
                "role": "assistant",
                "content": "",
                "reasoning_content": "I need the weather.",
                "tool_calls": [TOOL_CALL],
            },
            "sampled": True,
            "token_ids": [3, 4],
            "mask": [True, True],
            "logprobs": [-0.5, -0.25],
        },
        {
            "parent": 2,
            "message": {"role": "tool", "tool_call_id": "call-1", "content": "21 °C"},
            "token_ids": [8, 9],
            "mask": [False, False],
        },
        {
            "parent": 3,
            "message": {"role": "assistant", "content": "Yes, 21 °C.", "reasoning_content": None, "tool_calls": None},
            "sampled": True,
            "token_ids": [5, 6],
            "mask": [True, True],
            "logprobs": [-0.125, -1.0],
        },
    ]
    assert trace["rewards"] == {"reward": {"score": 1.0}}


@given(conversations())
def test_every_branch_of_a_verifiers_trace_is_a_segment(calls: list[Call]) -> None:
    scored = [replace(call, logprobs=(-1.0,) * len(call.token_ids)) for call in calls]
    session = Trajectory("s", tuple(Step("agent", "Ho", call=call) for call in scored))
    nodes = verifiers_trace(session)["nodes"]

    inner = {node["parent"] for node in nodes}
    branches = [branch_to(leaf, nodes) for leaf in range(len(nodes)) if leaf not in inner]

    assert branches == [
        (list(segment.ids), [0] * len(segment.prompt_ids) + list(segment.completion_mask))
        for segment in session.segments
    ]


def branch_to(leaf: int, nodes: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    mask: list[int] = []
    place: int | None = leaf
    while place is not None:
        ids, mask = nodes[place]["token_ids"] + ids, nodes[place]["mask"] + mask
        place = nodes[place]["parent"]
    return ids, mask


def test_nemo_gym_reads_items() -> None:
    first, second = SESSION.calls

    assert nemo_gym_items(SESSION) == [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": "Is it warm in Paris?"},
        {"type": "reasoning", "id": "rs_3", "summary": [{"type": "summary_text", "text": "I need the weather."}]},
        {
            "type": "function_call",
            "call_id": "call-1",
            "name": "get_weather",
            "arguments": '{"city": "Paris"}',
            "prompt_token_ids": list(first.prompt_token_ids),
            "generation_token_ids": [3, 4],
            "generation_log_probs": [-0.5, -0.25],
        },
        {"type": "function_call_output", "call_id": "call-1", "output": "21 °C"},
        {
            "type": "message",
            "id": "msg_4",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes, 21 °C.", "annotations": []}],
            "status": "completed",
            "prompt_token_ids": list(second.prompt_token_ids),
            "generation_token_ids": [5, 6],
            "generation_log_probs": [-0.125, -1.0],
        },
    ]


@pytest.mark.parametrize("adapter", [trl_sft, verl_outputs, slime_samples, agent_lightning_events])
def test_a_session_without_logprobs_has_none_where_a_trainer_allows_it(
    adapter: Callable[[Trajectory], list[dict[str, Any]]],
) -> None:
    assert "0.0" not in json.dumps(adapter(UNSCORED))


@pytest.mark.parametrize(
    ("adapter", "trainer"),
    [(lambda session: trl_rollouts([session]), "TRL"), (verifiers_trace, "verifiers"), (nemo_gym_items, "NeMo-Gym")],
    ids=["trl", "verifiers", "nemo_gym"],
)
def test_a_session_without_logprobs_is_refused_where_a_trainer_needs_them(
    adapter: Callable[[Trajectory], object], trainer: str
) -> None:
    with pytest.raises(ValueError, match=f"session 's' has sampled tokens without .* which {trainer} needs"):
        adapter(UNSCORED)


def test_a_segment_of_which_one_call_has_no_logprobs_has_none_for_a_trainer() -> None:
    steps = (Step("agent", "", call=Call((1,), (2,))), Step("agent", "", call=Call((1, 2, 3), (4,), (-1.0,))))
    session = Trajectory("s", steps, reward=0.0)

    assert verl_outputs(session)[0]["response_logprobs"] is None
    assert skyrl_output([session])["rollout_logprobs"] is None


def test_skyrl_is_not_given_a_reward_that_nobody_set() -> None:
    with pytest.raises(ValueError, match="session 's' has no reward, which SkyRL needs"):
        skyrl_output([UNSCORED])
