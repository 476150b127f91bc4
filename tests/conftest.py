"""The count of live tests in every summary, a failure where they were required, and an environment for the others."""

import os

import pytest

MODELS = ("tiny-qwen3", "tiny-gpt-oss")
LIVE = ("live", True)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, key or proxy of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("VLLM_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live-required", action="store_true", help="fail unless live tests ran and none was skipped")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reports know keywords, and a folder's name is one: only the marker says that a test talks to a server."""
    for item in items:
        if item.get_closest_marker("live") is not None:
            item.user_properties.append(LIVE)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """pytest leaves with session.exitstatus, so that this is where a run without live tests becomes a failure."""
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
    """What is wrong where live tests were required."""
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
    """Where a test names its model: in its id, or as a property it recorded."""
    return " ".join([report.nodeid, *(str(value) for _name, value in report.user_properties)])
