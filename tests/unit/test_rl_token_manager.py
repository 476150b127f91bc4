"""TokenManager: the sequence, mask and logprobs of a session."""

import pytest
from hypothesis import given

from amplifier_module_provider_vllm.rl import Call, Token, TokenManager, merge
from tests.support.trajectories import chain, conversations


def test_prompts_are_masked_and_responses_are_not() -> None:
    tokens = TokenManager()

    tokens.add_prompt([1, 2])
    tokens.add_response([3], [-0.5])

    assert tokens.tokens == [Token(1, None, False), Token(2, None, False), Token(3, -0.5, True)]
    assert (tokens.token_ids, tokens.loss_mask, tokens.logprobs) == ([1, 2, 3], [0, 0, 1], [None, None, -0.5])
    assert (tokens.segment_info, len(tokens)) == ([(False, 2), (True, 1)], 3)
    assert repr(tokens) == "TokenManager(segments=2, tokens=3, output_tokens=1)"


def test_a_response_without_logprobs_has_none_rather_than_zeros() -> None:
    tokens = TokenManager()

    tokens.add_response([3])

    assert tokens.logprobs == [None]


def test_calls_are_counted_once_although_each_prompt_repeats_the_session() -> None:
    tokens = TokenManager()

    extended = [tokens.add_call([1, 2], [3]), tokens.add_call([1, 2, 3, 7], [4]), tokens.add_call([1, 2, 3, 7, 4], [5])]

    assert extended == [True, True, True]
    assert (tokens.token_ids, tokens.loss_mask) == ([1, 2, 3, 7, 4, 5], [0, 0, 1, 0, 1, 1])
    assert tokens.segment_info == [(False, 2), (True, 1), (False, 1), (True, 1), (True, 1)]
    assert tokens.starts == [0]


def test_a_prompt_that_does_not_extend_the_session_begins_a_sequence() -> None:
    tokens = TokenManager()

    extended = [tokens.add_call([1, 2], [3]), tokens.add_call([1, 9], [4]), tokens.add_call([1, 9, 4, 5], [6])]

    assert extended == [True, False, True]
    assert [[token.token_id for token in segment] for segment in tokens.segments] == [
        [1, 2],
        [3],
        [1, 9],
        [4],
        [5],
        [6],
    ]
    assert tokens.starts == [0, 2]


def test_logprobs_of_another_length_are_refused_before_anything_is_added() -> None:
    tokens = TokenManager()

    with pytest.raises(ValueError, match="logprobs: 2 are needed, one for each token, not 1"):
        tokens.add_call([1], [2, 3], [-1.0])

    assert (len(tokens), tokens.segments, tokens.starts) == (0, [], [])


def test_a_reset_forgets_everything() -> None:
    tokens = TokenManager()
    tokens.add_call([1], [2])

    tokens.reset()

    assert (len(tokens), tokens.add_call([5], [6]), tokens.token_ids) == (0, True, [5, 6])


def test_what_is_returned_can_be_changed_without_changing_the_session() -> None:
    tokens = TokenManager()
    tokens.add_prompt([1])

    tokens.segments[0].clear()
    tokens.token_ids.clear()

    assert tokens.token_ids == [1]


@given(conversations())
def test_its_sampled_tokens_are_those_of_the_merged_calls(calls: list[Call]) -> None:
    tokens = TokenManager()

    for call in calls:
        tokens.add_call(call.prompt_token_ids, call.token_ids, call.logprobs)

    assert sum(tokens.loss_mask) == sum(segment.sampled for segment in merge(calls))
    assert all(0 <= start < len(tokens.segments) for start in tokens.starts)
    assert tokens.starts == sorted(set(tokens.starts))


def test_one_chain_of_calls_is_the_one_merged_segment() -> None:
    calls = chain(([1, 2], [3]), ([], [4]), ([5], [6, 7]))
    tokens = TokenManager()

    for call in calls:
        tokens.add_call(call.prompt_token_ids, call.token_ids, call.logprobs)

    (segment,) = merge(calls)
    assert tuple(tokens.token_ids) == segment.ids
    assert tuple(tokens.loss_mask) == (0,) * len(segment.prompt_ids) + segment.completion_mask
