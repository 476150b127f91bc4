"""`make rl` says what it did not run, and fails for what a reader rejects. The readers themselves need `make rl`."""

import re
import sys
from pathlib import Path

import pytest

from tests.rl.environments import ENVIRONMENTS, Environment, first_python, make
from tests.rl.runs import Outcome, Run, failed, report

READ = Outcome("harbor", "read", "20 trajectories valid\nthe second line")
REJECTED = Outcome("datasets", "rejected", "row 3 differs")
NOT_RUN = Outcome("TRL", "not run", "Python 3.12 is missing")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """One that is set up, with the standard library alone."""
    one = Environment("plain", (3, 11), "the standard library", parent=tmp_path)
    one.python.parent.mkdir(parents=True)
    one.python.symlink_to(Path(sys.executable).resolve())
    one.stamp.touch()
    return one


def test_a_python_is_found_behind_one_that_is_absent_one_that_is_broken_and_one_that_is_too_old(tmp_path: Path) -> None:
    shim, old, new = (tmp_path / name for name in ("shim", "old", "new"))
    for file, script in ((shim, "exit 127"), (old, "echo 3 10"), (new, "echo 3 13")):
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    assert first_python((3, 12), [str(tmp_path / "absent"), str(shim), str(old), str(new)]) == str(new)
    assert first_python((3, 12), [str(shim), str(old)]) is None


def test_an_environment_without_a_python_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    impossible = Environment("new", (4, 0), "harbor", parent=tmp_path)

    make(impossible)

    assert capsys.readouterr().out == "Not set up: .venv-rl-new (harbor), because Python 4.0 is missing.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_without_its_environment_does_not_run(tmp_path: Path) -> None:
    run = Run("harbor", Environment("new", (4, 0), "harbor", parent=tmp_path), "platform")

    assert run.outcome(tmp_path / "log") == Outcome("harbor", "not run", "Python 4.0 is missing")


def test_what_a_reader_prints_is_its_finding(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[1]")

    outcome = Run("json", environment, "json.tool", ("--compact", str(tmp_path / "rows.json"))).outcome(
        tmp_path / "log"
    )

    assert outcome == Outcome("json", "read", "[1]")


def test_a_reader_that_fails_has_rejected_what_we_wrote_and_its_log_is_shown(
    environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text("[1")

    outcome = Run("json", environment, "json.tool", (str(tmp_path / "rows.json"),)).outcome(tmp_path / "log")

    assert outcome.status == "rejected"
    assert "Expecting" in outcome.words
    assert str(tmp_path / "log") in outcome.words


def test_the_report_ends_with_what_did_not_run() -> None:
    assert list(report([NOT_RUN, READ, REJECTED])) == [
        "harbor    20 trajectories valid",
        "          the second line",
        "datasets  REJECTED: row 3 differs",
        "not run: TRL, because Python 3.12 is missing",
    ]


def test_only_a_rejection_is_a_failure() -> None:
    assert failed([READ, REJECTED])
    assert not failed([READ, NOT_RUN])


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_version_of_a_reader_is_pinned(name: str) -> None:
    lines = ENVIRONMENTS[name].requirements.read_text().splitlines()

    pins = [line.partition("  #")[0] for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    assert pins != []
