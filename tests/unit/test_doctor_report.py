"""The three report formats of the doctor."""

import io
import json

import pytest
from rich.console import Console

from amplifier_module_provider_vllm._doctor.findings import Examination, Finding, Setting, fail, note, ok
from amplifier_module_provider_vllm._doctor.report import JsonReport, PlainReport, Report, verdict, works
from amplifier_module_provider_vllm._doctor.rich_report import RichReport

SETTINGS = [Setting("base_url", "http://[::1]:8000", "command line"), Setting("top_p", None, "default")]
FINDINGS = [
    ok("reachable", "[::1]:8000 answers"),
    note("version", "not told"),
    fail("tool call", "calls arrive as text: \x1b[31m[bold]\ntwo lines", "start vLLM with `--tool-call-parser hermes`"),
]


def make_examination(*findings: Finding, name: str = "vllm") -> Examination:
    return Examination(name, "http://[::1]:8000/v1", SETTINGS, list(findings))


def show(report: Report, examination: Examination) -> None:
    report.begin(examination)
    for finding in examination.findings:
        report.add(finding)
    report.end([examination], stopped=False)


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show(PlainReport(), make_examination(*FINDINGS))

    assert capsys.readouterr().out == (
        "\n"
        "vllm: http://[::1]:8000/v1\n"
        "\n"
        "        base_url        http://[::1]:8000  (command line)\n"
        "\n"
        "  ok    reachable       [::1]:8000 answers\n"
        "  note  version         not told\n"
        "  fail  tool call       calls arrive as text: [31m[bold] two lines\n"
        "                        -> start vLLM with `--tool-call-parser hermes`\n"
        "\n"
        "A session would not work correctly. To fix: tool call.\n"
    )


def test_a_terminal_shows_the_same_with_marks_and_keeps_long_texts_in_their_column() -> None:
    screen = io.StringIO()

    show(RichReport(Console(file=screen, width=60, highlight=False)), make_examination(*FINDINGS))

    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert "  ✓ reachable       [::1]:8000 answers" in lines
    assert "  · version         not told" in lines
    assert "  ✗ tool call       calls arrive as text: [31m[bold] two" in lines
    assert "                    lines" in lines
    assert "                  → start vLLM with `--tool-call-parser" in lines
    assert "To fix: tool call." in " ".join(lines)


def test_scripts_get_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    show(JsonReport(), make_examination(*FINDINGS))

    report = json.loads(capsys.readouterr().out)
    assert report["works"] is False
    assert report["stopped"] is False
    (provider,) = report["providers"]
    assert provider["works"] is False
    assert provider["url"] == "http://[::1]:8000/v1"
    assert provider["settings"][1] == {"key": "top_p", "value": None, "source": "default"}
    assert [finding["outcome"] for finding in provider["findings"]] == ["ok", "note", "fail"]
    assert provider["findings"][2]["remedy"] == "start vLLM with `--tool-call-parser hermes`"


def test_a_session_would_work_only_if_nothing_failed_and_something_was_examined() -> None:
    good, bad = make_examination(*FINDINGS[:2]), make_examination(*FINDINGS, name="large")

    assert works([good], stopped=False)
    assert not works([good], stopped=True)
    assert not works([good, bad], stopped=False)
    assert not works([], stopped=False)
    assert verdict([good], stopped=False) == "A session would work."
    assert verdict([good, bad], stopped=False) == "A session would not work correctly. To fix: large: tool call."
    assert verdict([good], stopped=True) == "Stopped before everything was checked."
