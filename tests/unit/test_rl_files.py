"""Files of trajectories: each format, folders of them, and what an odd file is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from amplifier_module_provider_vllm.rl import (
    JournalWriter,
    Trajectory,
    from_rows,
    read_journal,
    read_trajectories,
    to_atif,
    to_rows,
    write_jsonl,
    write_parquet,
)
from tests.support.token_events import tokens_event
from tests.support.trajectories import SESSION

OTHER = replace(SESSION, session_id="session-2", parent_session_id="session-1", reward=None)


def test_a_session_is_read_from_its_object(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    path.write_text(json.dumps(to_atif(SESSION), indent=2))

    assert list(read_trajectories(path)) == [SESSION]


def test_sessions_are_read_from_lines(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"

    write_jsonl(path, map(to_atif, [SESSION, OTHER]))

    assert list(read_trajectories(path)) == [SESSION, OTHER]


def test_sessions_are_read_from_rows(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.jsonl", to_rows(SESSION)

    write_jsonl(path, rows)

    assert list(read_trajectories(path)) == from_rows(rows)


def test_sessions_are_read_from_parquet(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.parquet", to_rows(SESSION)

    write_parquet(path, rows)

    assert list(read_trajectories(path)) == from_rows(rows)


def test_a_session_is_read_from_its_journal(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "one.journal")

    assert list(read_trajectories(path)) == [read_journal(path)]


def test_of_a_session_with_a_journal_a_folder_gives_the_journal_alone(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "one.journal")
    write_jsonl(tmp_path / "one.jsonl", [to_atif(replace(SESSION, session_id="one"))])
    write_jsonl(tmp_path / "two.jsonl", [to_atif(OTHER)])

    assert list(read_trajectories(tmp_path)) == [read_journal(path), OTHER]


def test_a_folder_gives_the_sessions_of_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "later.json").mkdir()
    write_jsonl(tmp_path / "later.json" / "b.jsonl", [to_atif(OTHER)])
    write_jsonl(tmp_path / "a.jsonl", [to_atif(SESSION)])
    (tmp_path / "notes.txt").write_text("not a trajectory")

    assert list(read_trajectories(tmp_path)) == [SESSION, OTHER]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text("\n" + json.dumps(to_atif(SESSION)) + "\n\n")

    assert list(read_trajectories(path)) == [SESSION]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param('{"schema_version": "ATI', "not valid JSON, or cut short: Unterminated string", id="cut short"),
        pytest.param("[1]", "the record: an object is needed, not [1]", id="not an object"),
        pytest.param('{"a": 1}', "not a trajectory: neither ATIF (`schema_version`)", id="something else"),
        pytest.param('{"schema_version": "ATIF-v1.7"}', "session_id: a text is needed, and missing", id="ATIF"),
        pytest.param('{"completion_ids": "1"}', "completion_ids: a list of token ids is needed; it is '1'", id="row"),
        pytest.param('{"completion_ids": [NaN]}', "not valid JSON, or cut short: NaN is not a JSON number", id="NaN"),
    ],
)
def test_an_odd_line_is_refused_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text(json.dumps(to_atif(SESSION)) + "\n" + line + "\n")
    sessions = read_trajectories(path)

    first = next(sessions)
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        next(sessions)

    assert first == SESSION
    assert str(refused.value).startswith(f"{path}, line 2: {message}")


def test_bytes_that_are_no_text_are_refused_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_bytes(b'{"a": "\xff"}\n')

    with pytest.raises(ValueError, match=r"sessions\.jsonl, line 1: not valid JSON"):
        list(read_trajectories(path))


def test_a_broken_object_is_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    path.write_text("{")

    with pytest.raises(ValueError, match=r"session\.json: not valid JSON, or cut short"):
        list(read_trajectories(path))


def test_a_file_that_is_no_parquet_is_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and no more")

    with pytest.raises(ValueError, match=r"rows\.parquet: not a parquet file that can be read"):
        list(read_trajectories(path))


def test_rewards_that_differ_within_a_session_are_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [row for reward in (0.0, 1.0) for row in to_rows(SESSION.with_reward(reward))])

    with pytest.raises(ValueError, match=r"rows\.jsonl: reward: session 'session-1' has 2 different rewards"):
        list(read_trajectories(path))


def test_an_empty_file_has_no_sessions(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.touch()

    sessions: list[Trajectory] = list(read_trajectories(path))

    assert sessions == []


def write_journal(path: Path) -> Path:
    with JournalWriter(path, "one") as journal:
        journal.write_call(tokens_event([1, 2], [3]))
    return path
