"""Trajectories: reading calls of events, and merging calls by exact prefix."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm.rl import Call, Segment, Step, Trajectory, merge
from amplifier_module_provider_vllm.rl.trajectory import join
from tests.support.trajectories import EVENT, SESSION, chain, conversations


def test_an_event_becomes_a_call() -> None:
    call = Call.from_event(EVENT)

    assert call == Call(
        prompt_token_ids=(1, 2),
        token_ids=(3, 4),
        logprobs=(-0.5, -0.25),
        finish_reason="tool_calls",
        model="tiny-qwen3",
        endpoint="chat",
        request_id="req-1",
        response_id="chatcmpl-1",
        call_index=1,
        policy_version="7",
        token_in=True,
        segment="first call",
        sampling={"temperature": 1.0},
        usage={"input_tokens": 2, "output_tokens": 2, "cache_read_tokens": 1},
        timestamp="2026-11-22T01:02:03+00:00",
    )


def test_an_event_without_logprobs_gives_none_rather_than_zeros() -> None:
    assert Call.from_event(EVENT | {"logprobs": None}).logprobs is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prompt_token_ids", None, "prompt_token_ids: a list of token ids is needed; it is None"),
        ("prompt_token_ids", [1, True], "prompt_token_ids: a list of token ids is needed; it is [1, True]"),
        ("token_ids", [3, -1], "token_ids: a list of token ids is needed; it is [3, -1]"),
        ("token_ids", [2**31], "token_ids: a list of token ids is needed; it is [2147483648]"),
        ("token_ids", "34", "token_ids: a list of token ids is needed; it is '34'"),
        ("logprobs", [-0.5], "logprobs: 2 are needed, one for each token, not 1"),
        ("logprobs", [-0.5, None], "logprobs: a number for each token, or null instead of the list, is needed"),
        ("logprobs", [-0.5, float("nan")], "logprobs: a list of finite log probabilities is needed; it is [-0.5, nan]"),
        ("logprobs", [-0.5, 10**400], "logprobs: a list of finite log probabilities is needed; it is [-0.5, 1000"),
        ("model", 7, "model: a text is needed; it is 7"),
        ("endpoint", None, "endpoint: a text is needed; it is None"),
        ("call_index", -1, "call_index: a whole number from 0 is needed; it is -1"),
        ("token_in", 1, "token_in: true or false is needed; it is 1"),
        ("usage", [], "usage: an object is needed, not []"),
    ],
)
def test_an_event_with_a_wrong_value_is_refused_by_key_and_value(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Call.from_event(EVENT | {key: value})

    assert str(refused.value).startswith(message)


def test_an_event_without_ids_is_refused_by_key() -> None:
    event = {key: value for key, value in EVENT.items() if key != "token_ids"}

    with pytest.raises(ValueError, match=r"^token_ids: a list of token ids is needed, and missing$"):
        Call.from_event(event)


def test_a_prompt_that_extends_the_call_before_joins_its_segment() -> None:
    assert SESSION.segments == (
        Segment(
            prompt_ids=(1, 2),
            completion_ids=(3, 4, 8, 9, 5, 6),
            completion_mask=(1, 1, 0, 0, 1, 1),
            logprobs=(-0.5, -0.25, 0.0, 0.0, -0.125, -1.0),
            calls=(0, 1),
            reason="first call",
        ),
    )


def test_a_prompt_that_repeats_the_one_before_begins_a_segment() -> None:
    again = Call((1, 2), (5,), (-1.0,), segment="regenerated")

    segments = merge([Call((1, 2), (3,), (-2.0,)), again])

    assert [(segment.calls, segment.reason) for segment in segments] == [((0,), None), ((1,), "regenerated")]


def test_a_call_beside_the_conversation_does_not_break_it() -> None:
    first, last = chain(([1], [2]), ([3], [4]))
    name_for_the_session = Call((7,), (8,))

    segments = merge([first, name_for_the_session, last])

    assert [segment.calls for segment in segments] == [(0, 2), (1,)]


def test_a_token_without_a_logprob_has_none_beside_tokens_with_one() -> None:
    first, last = Call((1,), (2,), None), Call((1, 2, 3), (4,), (-1.0,))

    (segment,) = merge([first, last])

    assert segment.logprobs == (None, 0.0, -1.0)


def test_a_segment_without_any_logprob_has_none_instead_of_a_list() -> None:
    (segment,) = merge([Call((1,), (2,)), Call((1, 2, 3), (4,))])

    assert segment.logprobs is None


def test_a_call_with_too_few_logprobs_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="logprobs: 2 are needed"):
        Call((1,), (2, 3), (-1.0,))


def test_a_reward_is_given_to_a_copy() -> None:
    session = Trajectory("s", (Step("user", "Hi"),))

    assert (session.with_reward(0.0).reward, session.reward) == (0.0, None)


@given(conversations(), conversations(), conversations())
def test_merging_is_associative(first: list[Call], second: list[Call], third: list[Call]) -> None:
    one, two, three = merge(first), merge(second), merge(third)

    assert join(join(one, two), three) == join(one, join(two, three)) == merge(first + second + third)


@given(conversations())
def test_masks_sum_to_the_sampled_tokens(calls: list[Call]) -> None:
    segments = merge(calls)

    assert sum(segment.sampled for segment in segments) == sum(len(call.token_ids) for call in calls)
    assert sorted(index for segment in segments for index in segment.calls) == list(range(len(calls)))


@given(conversations())
def test_a_segment_ends_as_its_last_call_did(calls: list[Call]) -> None:
    for segment in merge(calls):
        last = calls[segment.calls[-1]]

        assert segment.ids == last.prompt_token_ids + last.token_ids
        assert len(segment.completion_ids) == len(segment.completion_mask)
        assert segment.logprobs is None or len(segment.logprobs) == len(segment.completion_ids)


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(4, 6)), st.lists(st.integers(4, 6))), max_size=8))
def test_any_interleaving_of_sessions_stays_apart(turns: list[tuple[int, list[int], list[int]]]) -> None:
    apart = [chain(*(turn[1:] for turn in turns if turn[0] == session), start=[session]) for session in range(3)]
    waiting = [iter(calls) for calls in apart]

    mixed = merge(next(waiting[session]) for session, _, _ in turns)

    bare = [(each.prompt_ids, each.completion_ids, each.completion_mask, each.logprobs) for each in mixed]
    alone = [segment for calls in apart for segment in merge(calls)]
    assert sorted(bare) == sorted((s.prompt_ids, s.completion_ids, s.completion_mask, s.logprobs) for s in alone)
