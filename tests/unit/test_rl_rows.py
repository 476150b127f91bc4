"""Training rows: made of a session, written and read as parquet, and made into a session again."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm.rl import (
    Call,
    Row,
    Step,
    Trajectory,
    from_rows,
    read_parquet,
    to_rows,
    write_parquet,
)
from amplifier_module_provider_vllm.rl.rows import read_row
from tests.support.trajectories import SESSION, chain, conversations, sessions

ROW: Row = {
    "session_id": "session-1",
    "segment": 0,
    "model": "tiny-qwen3",
    "reward": 1.0,
    "num_calls": 2,
    "prompt_ids": [1, 2],
    "completion_ids": [3, 4, 8, 9, 5, 6],
    "completion_mask": [1, 1, 0, 0, 1, 1],
    "logprobs": [-0.5, -0.25, 0.0, 0.0, -0.125, -1.0],
}


def session_of(calls: list[Call], session_id: str = "s") -> Trajectory:
    return Trajectory(session_id, tuple(Step("agent", "", call=call) for call in calls))


def test_a_segment_is_a_row() -> None:
    assert to_rows(SESSION) == [ROW]


def test_a_session_without_reward_and_logprobs_has_none_rather_than_zeros() -> None:
    (row,) = to_rows(session_of([Call((1,), (2,))]))

    assert (row["reward"], row["logprobs"]) == (None, None)


def test_rows_give_back_the_calls_that_were_sampled() -> None:
    calls = [*chain(([1], [2, 3]), ([4], [5])), Call((9,), ()), *chain(([7], []), ([6], [5]))]

    (session,) = from_rows(to_rows(session_of(calls)))

    assert session == session_of(calls)


@given(conversations())
def test_rows_made_of_rows_are_the_same(calls: list[Call]) -> None:
    rows = to_rows(session_of(calls))

    again = [row for session in from_rows(rows) for row in to_rows(session)]

    # Calls with no token between them come back as one.
    assert [row | {"num_calls": 0} for row in again] == [row | {"num_calls": 0} for row in rows]


@given(sessions(st.just("a")), sessions(st.just("b")), st.randoms())
def test_rows_of_sessions_in_any_order_stay_apart(one: Trajectory, other: Trajectory, random: Any) -> None:
    mixed = to_rows(one) + to_rows(other)
    random.shuffle(mixed)

    read = {session.session_id: session for session in from_rows(mixed)}

    for session in (one, other):
        alone = from_rows(to_rows(session))
        assert [read[each.session_id] for each in alone] == alone


@given(sessions())
def test_a_row_comes_back_from_json_as_it_was_written(session: Trajectory) -> None:
    for row in to_rows(session):
        assert read_row(json.loads(json.dumps(row))) == row


@given(st.lists(sessions(st.text(max_size=3)), max_size=3))
def test_parquet_gives_back_the_rows(tmp_path_factory: pytest.TempPathFactory, many: list[Trajectory]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    rows = [row for session in many for row in to_rows(session)]

    write_parquet(path, rows)

    assert read_parquet(path) == rows


def test_parquet_without_pyarrow_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ModuleNotFoundError, match=r"pip install 'amplifier-module-provider-vllm\[parquet\]'"):
        write_parquet(tmp_path / "rows.parquet", [ROW])


def test_rewards_that_differ_within_a_session_are_refused() -> None:
    with pytest.raises(ValueError, match="reward: session 'session-1' has 2 different rewards"):
        from_rows([ROW, {**ROW, "segment": 1, "reward": 0.0}])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("session_id", None, "session_id: a text is needed; it is None"),
        ("segment", "0", "segment: a whole number from 0 is needed; it is '0'"),
        ("reward", True, "reward: a finite number is needed; it is True"),
        ("completion_ids", [3], "completion_mask: 1 values of 0 or 1"),
        ("completion_mask", [1, 1, 0, 0, 1, 2], "completion_mask: 6 values of 0 or 1"),
        ("logprobs", [-1.0], "logprobs: 6 log probabilities, one for each token of the completion, are needed"),
        ("advantage", 1, "advantage: this key cannot be kept, take it out; it is 1"),
    ],
)
def test_a_wrong_column_is_refused_by_name(column: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        read_row({**ROW, column: value})

    assert str(refused.value).startswith(message)
