"""`amplifier-vllm tokens`: what it says of a trajectory file, its exit status, and its page."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from amplifier_module_provider_vllm._cli import main
from amplifier_module_provider_vllm.rl import Call, Step, ToolCall, Trajectory, to_atif, to_rows, write_jsonl

FIRST = Call((1, 2, 3), (4, 5), (-0.5, -0.25), "tool_calls", "m", "chat", "r1", segment="first call")
SECOND = Call((1, 2, 3, 4, 5, 6, 7), (8,), (-0.125,), "stop", "m", "chat", "r2", token_in=True)
EDITED = Call((1, 2, 9, 9), (8,), (0.0,), "length", "m", "chat", "r3", segment="history changed")
EVIL = '</script><script>alert("1")</script><b>&amp;</b> \u2028'

Write = Callable[..., Path]


def session(*calls: Call, name: str = "s1", message: str = "", **fields: Any) -> Trajectory:
    steps = (Step("user", "Hello"), *(Step("agent", message, call=call) for call in calls))
    return Trajectory(name, steps, agent_version="1", model="m", **fields)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_sessions(*sessions: Trajectory) -> Path:
        path = tmp_path / "sessions.jsonl"
        write_jsonl(path, map(to_atif, sessions))
        return path

    return write_sessions


def run(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = main(["tokens", str(path), *more])
    return code, capsys.readouterr().out


def page_data(text: str) -> Any:
    """What the page's script reads, as a browser's parser finds it."""
    found: list[str] = []

    class Reader(HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = tag == "script" and ("id", "data") in attrs

        def handle_data(self, data: str) -> None:
            if self.inside:
                found.append(data)

        def handle_endtag(self, _tag: str) -> None:
            self.inside = False

    Reader().feed(text)
    return json.loads("".join(found))


def test_each_call_is_told_with_its_tokens_and_its_segment(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(session(FIRST, SECOND, EDITED, reward=0.5))

    code, said = run(path, capsys)

    assert code == 0
    assert said == (
        "\nsession s1: m\n\n"
        "  call  prompt  reused  new  sampled  masked  end         segment\n"
        "     1       3       0    3        2       0  tool_calls  1: first call\n"
        "     2       7       5    2        1       2  stop\n"
        "     3       4       2    2        1       0  length      2: history changed\n"
        "\n  3 calls, 2 segments, 4 tokens sampled, 2 masked, logprobs of all, reward 0.5\n"
        "\n1 session: nothing is wrong.\n"
    )


def test_a_sub_agents_session_names_its_parent(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(session(FIRST), session(replace(FIRST, logprobs=None), name="s2", parent_session_id="s1"))

    code, said = run(path, capsys)

    assert code == 0
    assert "session s2: part of s1, m\n" in said
    assert "1 call, 1 segment, 2 tokens sampled, 0 masked, logprobs of none, no reward\n" in said
    assert "2 sessions: nothing is wrong.\n" in said


@pytest.mark.parametrize(
    ("calls", "finding"),
    [
        ([replace(FIRST, logprobs=(-0.5, 0.25))], "call 1: the log probability of token 2 is 0.25, above 0"),
        ([replace(FIRST, prompt_token_ids=())], "call 1: its prompt has no tokens"),
        ([replace(FIRST, usage={"output_tokens": 3})], "call 1: usage.output_tokens is 3, but the file has 2 ids"),
        ([replace(FIRST, usage={"input_tokens": 1200})], "call 1: usage.input_tokens is 1,200, but the file has 3 ids"),
        (
            [FIRST, replace(EDITED, segment=None)],
            "call 2: its prompt goes on from no call before it, and the file does not say why (2 tokens agree)",
        ),
        (
            [FIRST, replace(SECOND, request_id="r1")],
            "call 2: it is number 0 of its request, after number 0",
        ),
        (
            [FIRST, replace(SECOND, call_index=2)],
            "call 2: it is the first of its request here, but its number is 2, not 0",
        ),
    ],
)
def test_what_is_wrong_with_a_call_is_told(
    calls: list[Call], finding: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(session(*calls))

    code, said = run(path, capsys)

    assert code == 1
    assert re.findall(r"wrong  (.*)", said) == [finding]
    assert said.endswith("1 session: 1 finding.\n")


def test_corrections_and_continuations_of_a_request_are_in_order(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(session(FIRST, replace(SECOND, request_id="r1", call_index=1)))

    assert run(path, capsys)[0] == 0


def test_a_session_that_is_there_twice_is_a_finding(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(session(FIRST), session(SECOND))

    code, said = run(path, capsys)

    assert code == 1
    assert "wrong  session s1 is in it 2 times\n" in said


def test_training_rows_need_not_say_why_a_segment_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, to_rows(session(FIRST, SECOND, EDITED)))

    code, said = run(path, capsys)

    assert code == 0
    assert "2: the file does not say why" in said
    assert "3 calls, 2 segments, 4 tokens sampled, 2 masked, logprobs of all, no reward\n" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "has no trajectories"),
        (b"{", "line 1: not valid JSON, or cut short"),
        (b'{"schema_version": "ATIF-v1.7", "session_id": "s", "steps": [], "agent": {}}', "line 1: steps"),
        (b"\xff\xfe\n", "line 1: not valid JSON"),
    ],
    ids=["no file", "empty", "cut", "no steps", "no text"],
)
def test_a_file_that_cannot_be_read_is_2_and_says_why(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sessions.jsonl"
    if content is not None:
        path.write_bytes(content)

    code = main(["tokens", str(path)])

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("amplifier-vllm: ")
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("completion_token_ids", [4, -5]), ("completion_token_ids", [4, True]), ("logprobs", [-0.5])],
    ids=["negative id", "no id", "a logprob is missing"],
)
def test_ids_and_logprobs_that_cannot_be_are_named_with_their_line(
    key: str, value: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sessions.jsonl"
    broken = to_atif(session(FIRST))
    broken["steps"][1]["metrics"][key] = value
    path.write_text(json.dumps(broken))

    code = main(["tokens", str(path)])

    assert code == 2
    assert re.search(rf"line 1: steps\[1\]\.metrics\.{key}", capsys.readouterr().err)


def test_terminals_get_no_control_characters_of_the_file(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(session(replace(FIRST, segment="\x1b[31mred"), name="\x1b]0;title\x07"))

    _, said = run(path, capsys)

    assert "\x1b" not in said
    assert "\x07" not in said


def test_a_terminal_gets_a_table_with_the_same_counts(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    path = write(session(FIRST, replace(EDITED, segment=None)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    code, said = run(path, capsys)

    assert code == 1
    plain = re.sub(r"\x1b\[[\d;]*m", "", said)
    assert re.search(r" 1 +3 +0 +3 +2 +0 +tool_calls +1: first call", plain)
    assert "✗ call 2: its prompt goes on from no call before it" in plain


def test_the_page_has_every_token_with_its_mask_and_logprob(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, out = write(session(FIRST, SECOND, replace(EDITED, logprobs=None))), tmp_path / "page.html"

    code, _ = run(path, capsys, "--html", str(out))

    assert code == 0
    data = page_data(out.read_text())
    keys = ("segment", "begins", "reused", "new", "sampled", "logprobs")
    assert [[call[key] for key in keys] for call in data["sessions"][0]["calls"]] == [
        [1, "first call", 0, [1, 2, 3], [4, 5], [-0.5, -0.25]],
        [1, None, 5, [6, 7], [8], [-0.125]],
        [2, "history changed", 2, [9, 9], [8], None],
    ]


def test_the_page_loads_nothing_and_runs_nothing_of_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    steps = (Step("agent", EVIL, EVIL, (ToolCall("c", EVIL, {EVIL: EVIL}),), call=replace(FIRST, segment=EVIL)),)
    path, out = tmp_path / "<b>\udcff.jsonl", tmp_path / "page.html"
    write_jsonl(path, [to_atif(Trajectory(EVIL, steps, agent_version="1", model=EVIL))])

    main(["tokens", str(path), "--html", str(out)])
    capsys.readouterr()

    text = out.read_text()
    (shown,) = page_data(text)["sessions"][0]["calls"]
    assert text.count("<script") == text.count("</script") == 2
    assert "alert" in shown["begins"]
    assert not re.search(r"https?:|url\(|innerHTML|@import", text)


def test_a_page_that_cannot_be_written_is_2(write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write(session(FIRST))

    code = main(["tokens", str(path), "--html", str(tmp_path / "nowhere" / "page.html")])

    assert code == 2
    assert "cannot write" in capsys.readouterr().err
