"""Count live tests in the summary, fail if required ones did not run, and clean the environment of the others."""

import os
from pathlib import Path

import pytest

from tests.support.speaker import ANSWERS, Answer

MODELS = ("tiny-qwen3", "tiny-gpt-oss")
LIVE = ("live", True)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove server, key and proxy variables of the user who runs the tests, and Amplifier's files in the home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("VLLM_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=ANSWERS.values(), ids=list(ANSWERS))
def answer(request: pytest.FixtureRequest) -> Answer:
    """The answer about cities, once on each endpoint."""
    of_an_endpoint: Answer = request.param
    return of_an_endpoint


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live-required", action="store_true", help="fail unless live tests ran and none was skipped")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark live tests for the report. Its keywords include folder names, so only the marker identifies a live test."""
    for item in items:
        if item.get_closest_marker("live") is not None:
            item.user_properties.append(LIVE)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run without the required live tests: pytest exits with session.exitstatus."""
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and _missing(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ran = _live_reports(config, "passed", "failed")
    models = [model for model in MODELS if any(model in _model_text(report) for report in ran)]
    counted = f"{len(ran)} {'test' if len(ran) == 1 else 'tests'} ran against real vLLM"
    terminalreporter.write_line(f"live: {counted} ({', '.join(models)})" if ran else "live: no test ran")
    if missing := _missing(config):
        terminalreporter.write_line(f"live: FAILED: {missing}", red=True, bold=True)


def _missing(config: pytest.Config) -> str | None:
    """The error message if live tests were required but did not run, else None."""
    skipped = _live_reports(config, "skipped")
    if not config.getoption("live_required") or config.option.collectonly:
        return None
    if skipped:
        return f"live tests were required, but {len(skipped)} were skipped"
    return None if _live_reports(config, "passed", "failed") else "live tests were required, but none ran"


def _live_reports(config: pytest.Config, *outcomes: str) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    reports = [report for outcome in outcomes for report in reporter.stats.get(outcome, [])]
    return [report for report in reports if isinstance(report, pytest.TestReport) and LIVE in report.user_properties]


def _model_text(report: pytest.TestReport) -> str:
    """The text that contains a test's model name: its id and its recorded properties."""
    return " ".join([report.nodeid, *(str(value) for _name, value in report.user_properties)])
