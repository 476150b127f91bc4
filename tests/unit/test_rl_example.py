"""The agent and the runner of `examples/rl`, without Agent Lightning: `make rl` runs them with it."""

from collections import Counter
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._config import Config
from amplifier_module_provider_vllm.rl import Call, Step, Trajectory
from examples.rl.agent import mount_plan, provider_config, reward
from examples.rl.lightning import Triplet, Triplets
from examples.rl.rollouts import Batch, Finished, recorded_equally

GATEWAY = "http://127.0.0.1:8080/proxy/rollout/r/attempt/0/mode/train/openai/v1"
BATCH = Batch("http://127.0.0.1:8101/v1", "tiny-qwen3", 20, 4, True, Path("/out"))

FIRST = ([1, 2], [3], [-0.1])
EXTENDING = ([1, 2, 3, 4], [5], [-0.2])
DRIFTED = ([1, 2, 9, 4], [5], [-0.2])


def environment(**changes: str) -> dict[str, str]:
    """What the controller gives an agent: its own variables, and those of the rollout's `env_map`."""
    (first, *_) = BATCH.requests()
    names = first["config"]["local"]["env_map"]
    task = {name: str(first["input"].get(path.removeprefix("input."), path)) for name, path in names.items()}
    return {**task, "TOKEN_IN": "true", "AGL_OPENAI_BASE_URL": GATEWAY, "AGL_KEY": "", "AGL_EVENT_URL": "", **changes}


def test_the_providers_config_is_valid_and_suits_the_gateway() -> None:
    config = Config.model_validate(provider_config(environment()))

    assert (config.base_url, config.endpoint, config.use_streaming) == (GATEWAY, "chat", False)
    assert set(provider_config(environment())) <= set(Config.model_fields)


def test_a_key_is_sent_only_if_there_is_one() -> None:
    assert "api_key" not in provider_config(environment())
    assert provider_config(environment(AGL_KEY="sk-gateway"))["api_key"] == "sk-gateway"


def test_the_plan_records_the_session() -> None:
    plan = mount_plan(environment())

    assert plan["hooks"] == [{"module": "hooks-vllm-tokens", "config": {"path": "/out/recorded", "format": "atif"}}]


@pytest.mark.parametrize(("answer", "value"), [("sunny, at 14 hours", 1.0), ("sunny", 0.5), ("rainy", 0.0), ("", 0.0)])
def test_the_reward_is_the_share_of_the_expected_words(answer: str, value: float) -> None:
    assert reward(answer, "sunny 14") == value


def test_every_rollout_has_a_name_of_its_own_and_a_task() -> None:
    requests = list(BATCH.requests())

    assert len({request["rollout_id"] for request in requests}) == BATCH.rollouts
    assert all(request["input"]["expected"] != "" for request in requests)


def test_a_follow_up_is_exact_if_it_begins_with_the_prompt_and_the_reply_before() -> None:
    assert Triplets([FIRST, EXTENDING], []).exact == [True]
    assert Triplets([FIRST, DRIFTED], []).exact == [False]
    assert Triplets([FIRST], []).exact == []


def test_logprobs_are_aligned_if_each_sampled_id_has_one() -> None:
    assert Triplets([FIRST, EXTENDING], []).aligned
    assert not Triplets([FIRST, ([1], [2, 3], [-0.1])], []).aligned
    assert not Triplets([([1], [2], None)], []).aligned


def test_a_run_is_complete_if_all_succeeded_and_recorded_the_same() -> None:
    read = {"one": Triplets([FIRST, EXTENDING], [1.0]), "two": Triplets([FIRST], [0.0])}
    both = Counter(succeeded=2)

    assert Finished(both, read, ["one", "two"], 2.0).complete
    assert not Finished(both, read, ["one"], 2.0).complete
    assert not Finished(Counter(succeeded=1, failed=1), read, ["one", "two"], 2.0).complete
    assert list(Finished(both, read, ["one", "two"], 2.0).lines()) == [
        "rollouts    2 succeeded, in 2 s",
        "follow-ups  1 of 1 exact, in 3 model calls",
        "recorded    2 of 2 trajectories equal to what the gateway recorded",
        "reward      0.50 on average, of 2 rollouts",
        "throughput  1.00 rollouts/s, 2 sampled tokens/s",
    ]


@pytest.mark.parametrize(
    ("seen", "equal"),
    [
        pytest.param([FIRST, EXTENDING], True, id="the same"),
        pytest.param([FIRST, ([1, 2, 3, 4], [5], [-0.20000000000000004])], True, id="the last bit of a logprob"),
        pytest.param([FIRST, ([1, 2, 3, 4], [5], [-0.2001])], False, id="another logprob"),
        pytest.param([FIRST, ([1, 2, 3, 4], [5], None)], False, id="no logprobs"),
        pytest.param([FIRST, DRIFTED], False, id="other ids"),
        pytest.param([FIRST], False, id="a call less"),
    ],
)
def test_a_session_has_recorded_what_the_gateway_saw(seen: list[Triplet], equal: bool) -> None:
    calls = (Call((1, 2), (3,), (-0.1,)), Call((1, 2, 3, 4), (5,), (-0.2,)))
    own = Trajectory("one", tuple(Step("agent", "", call=call) for call in calls))

    assert recorded_equally(own, Triplets(seen, [])) is equal
