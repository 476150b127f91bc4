"""The figures of `bench.drift`, from calls made by hand; the sessions themselves need a real server."""

from bench.drift import count_table, turn_table
from bench.token_sessions import Count, Prompt, prompts_of
from bench.warm_turn import Turn
from tests.support.episodes import EPISODES, Payload, Played, follow_ups


def call(prompt: list[int], *sampled: int) -> Payload:
    return {"prompt_token_ids": prompt, "token_ids": list(sampled)}


EXTENDED = call([1, 2], 3, 4), call([1, 2, 3, 4, 5], 6), call([1, 2, 3, 4, 5, 6, 7, 8], 9)
RENDERED_ANEW = call([1, 2], 3, 4), call([1, 2, 3, 5, 6], 7), call([1, 2, 3, 5, 6], 8)


def test_a_prompt_that_extends_the_call_before_keeps_all_of_it() -> None:
    assert prompts_of(EXTENDED) == (Prompt(2, 0, 0), Prompt(5, 4, 4), Prompt(8, 6, 6))


def test_a_prompt_keeps_what_stands_before_the_first_other_token() -> None:
    assert prompts_of(RENDERED_ANEW) == (Prompt(2, 0, 0), Prompt(5, 4, 3), Prompt(5, 6, 5))


def test_follow_ups_are_the_calls_behind_the_first_of_each_session() -> None:
    counted = follow_ups([Played(EPISODES[0], EXTENDED, ()), Played(EPISODES[0], RENDERED_ANEW, ())])

    assert (counted.exact, counted.all, counted.sessions, counted.segments) == (2, 4, 2, 4)


def test_the_tables_have_a_column_for_each_mode_and_a_row_for_each_turn() -> None:
    counts = [
        Count("streamed", "tiny", mode, exact, 7, 3, rows)
        for mode, exact, rows in (("messages", 0, 10), ("token-in", 7, 3))
    ]

    assert count_table(counts).splitlines()[2:] == [
        "| 3 sessions, streamed | 0 / 7 | 7 / 7 |",
        "| rows for training, of 3 sessions | 10 | 3 |",
    ]
    assert turn_table([Turn("tiny", "token-in", 2000, 1024, 1024)]).splitlines()[2:] == [
        "| tiny, token-in | 2,000 | 1,024 | 1,024 | 100% |"
    ]


def test_the_sessions_are_at_least_fifty_of_every_kind_with_names_of_their_own() -> None:
    assert len({episode.name for episode in EPISODES}) == len(EPISODES) >= 50
    assert {episode.results for episode in EPISODES} == {"text", "json"}
    assert {bool(episode.reminders) for episode in EPISODES} == {True, False}
    assert {episode.max_tokens is None for episode in EPISODES} == {True, False}
