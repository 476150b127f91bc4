"""The journal of a session: what is written is read again, whatever ends the process."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm.rl import Call, Observation, Step, ToolCall, Trajectory
from amplifier_module_provider_vllm.rl.journal import JournalWriter, read_journal
from tests.support.full_disk import limited_files
from tests.support.token_events import tokens_event, tool_call

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": {"type": "object"}},
}

UNTIL_KILLED = """
import sys
from pathlib import Path
from amplifier_module_provider_vllm.rl.journal import JournalWriter
from tests.support.token_events import tokens_event

journal = JournalWriter(Path(sys.argv[1]), "killed")
for count in range(10**9):
    journal.write_call(tokens_event(range(50), [count] * 2_000))
    print(count, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.journal"


def test_a_session_is_read_as_it_was_written(path: Path) -> None:
    first = tokens_event(
        [1, 2, 3],
        [4, 5],
        timestamp="2026-11-22T10:00:00Z",
        segment="first call",
        finish_reason="tool_calls",
        response_id="chatcmpl-1",
        policy_version="7",
        content=[{"type": "thinking", "thinking": "Paris."}, tool_call("call-1")],
    )
    second = tokens_event([1, 2, 3, 4, 5, 6], [7], call_index=1, logprobs=None)

    with JournalWriter(path, "child", parent_session_id="parent", agent_version="2.0", tools=[WEATHER]) as journal:
        journal.write_message("system", "Be brief.", 0)
        journal.write_message("user", "The weather?", 1, "2026-11-22T09:59:59Z")
        journal.write_call(first)
        journal.write_observation("call-1", "sunny", 3)
        journal.write_call(second)
        journal.write_reward(0.5)
        journal.write_end()

    assert read_journal(path) == Trajectory(
        session_id="child",
        parent_session_id="parent",
        agent_version="2.0",
        model="tiny-qwen3",
        tools=(WEATHER,),
        reward=0.5,
        steps=(
            Step("system", "Be brief."),
            Step("user", "The weather?", timestamp="2026-11-22T09:59:59Z"),
            Step(
                "agent",
                "",
                reasoning="Paris.",
                tool_calls=(ToolCall("call-1", "get_weather", {"city": "Paris"}),),
                observations=(Observation("call-1", "sunny"),),
                call=Call.from_event(first),
                timestamp="2026-11-22T10:00:00Z",
            ),
            Step("agent", "Hello.", call=Call.from_event(second)),
        ),
    )


def test_a_prompt_is_written_without_what_it_shares_with_a_call_before(path: Path) -> None:
    conversation, title = list(range(100)), [7, 8, 9]

    with JournalWriter(path, "one") as journal:
        journal.write_call(tokens_event(conversation, [100, 101]))
        journal.write_call(tokens_event(title, [1]))
        journal.write_call(tokens_event([*conversation, 100, 101, 5, 6], [102]))

    assert [(record["shared"], record["prompt_token_ids"]) for record in records(path)[1:]] == [
        (0, conversation),
        (0, title),
        (102, [5, 6]),
    ]


@given(prompts=st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=12), cuts=st.lists(st.integers(0, 12)))
def test_every_call_is_read_exactly_however_often_the_journal_is_opened_again(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[list[int]], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "session.journal"
    events = [tokens_event(prompt, prompt[:2], call_index=index) for index, prompt in enumerate(prompts)]

    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(events)], strict=True):
        with JournalWriter(path, "one") as journal:
            for event in events[start:end]:
                journal.write_call(event)

    assert read_journal(path).calls == tuple(Call.from_event(event) for event in events)


def test_a_killed_process_loses_at_most_the_call_that_it_was_writing(path: Path) -> None:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", UNTIL_KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 50:
                process.send_signal(signal.SIGKILL)
        last = int(line)

    calls = read_journal(path).calls

    assert [call.token_ids[0] for call in calls] == list(range(len(calls)))
    assert len(calls) > last
    with JournalWriter(path, "killed") as journal:
        journal.write_call(tokens_event(range(60), [1]))
    assert read_journal(path).calls == (*calls, Call.from_event(tokens_event(range(60), [1])))


@pytest.mark.parametrize("cut", range(1, 200, 13))
def test_a_torn_last_line_is_left_out_and_said_and_overwritten(
    path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_calls(path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])

    read = read_journal(path)
    write_calls(path, 1)

    assert len(read.calls) == 2
    assert f"{path}:4: the last line has no end, it is left out" in caplog.messages
    assert len(read_journal(path).calls) == 3
    assert path.read_bytes().count(b"\n") == 4


@pytest.mark.parametrize(
    ("number", "line", "said"),
    [
        (1, '{"kind": "end"}', "kind: the first record, and no other"),
        (2, "{", "Expecting property name"),
        (2, "[1]", "an object is needed"),
        (2, '{"kind": "session", "session_id": "two"}', "the first record, and no other"),
        (2, '{"kind": "song"}', "kind: .*'song'"),
        (2, '{"kind": "message", "source": "ghost", "content": ""}', "source: .*'ghost'"),
        (3, '{"kind": "call", "base": 1, "shared": 99, "prompt_token_ids": []}', "shared: .* 99"),
        (3, '{"kind": "call", "base": 1, "shared": 0, "prompt_token_ids": ["x"]}', "prompt_token_ids: .*'x'"),
        (3, "[" * 200_000, "nested too deep"),
    ],
)
def test_a_broken_line_before_the_last_is_an_error_that_names_it(path: Path, number: int, line: str, said: str) -> None:
    write_calls(path, 3)
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}:{number}: .*{said}"):
        read_journal(path)


def test_an_empty_file_has_no_session(path: Path) -> None:
    path.touch()

    with pytest.raises(ValueError, match="has no session in it"):
        read_journal(path)


def test_the_journal_of_another_session_is_left_alone(path: Path) -> None:
    write_calls(path, 1)
    before = path.read_bytes()

    with pytest.raises(ValueError, match="another session: 'one'"):
        JournalWriter(path, "two")

    assert path.read_bytes() == before


def test_a_journal_has_one_writer(path: Path) -> None:
    with JournalWriter(path, "one"), pytest.raises(OSError, match="already being written"):
        JournalWriter(path, "one")
    with JournalWriter(path, "one") as again:
        again.write_end()

    assert [record["kind"] for record in records(path)] == ["session", "end"]


def test_nobody_else_may_read_a_session(path: Path) -> None:
    write_calls(path, 1)

    assert path.stat().st_mode & 0o777 == 0o600


def test_strings_of_a_session_cannot_break_the_file(path: Path) -> None:
    strings = ["half \ud83d of a character", "two\nlines\r\n", "\u2028 \x00 \x85", "[/]\"'}{", "\ud83d\ude00"]

    with JournalWriter(path, "one") as journal:
        for index, text in enumerate(strings):
            journal.write_message("user", text, index)

    read = [step.message for step in read_journal(path).steps]
    assert read == ["half \ufffd of a character", *strings[1:4], "😀"]
    assert len(path.read_bytes().decode().split("\n")) == 1 + len(strings) + 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"token_ids": ["x"]}, r"token_ids: .*'x'"),
        ({"prompt_token_ids": [2**64]}, "prompt_token_ids: .*18446744073709551616"),
        ({"content": [{"type": "text"}]}, r"content\[0\]\.text"),
        ({"content": [tool_call("call-1") | {"name": None}]}, r"content\[0\]\.name"),
        ({"sampling": {"temperature": float("nan")}}, "not JSON compliant"),
    ],
)
def test_a_call_that_could_not_be_read_is_refused_and_not_written(
    path: Path, fields: dict[str, object], said: str
) -> None:
    with JournalWriter(path, "one") as journal, pytest.raises(ValueError, match=said):
        journal.write_call(tokens_event([1], [2]) | fields)

    assert [record["kind"] for record in records(path)] == ["session"]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("[1]", {"arguments": "[1]"}),
        ("", {"arguments": ""}),
        ('{"a": NaN}', {"arguments": '{"a": NaN}'}),
        (r'{"a": "\ud83d"}', {"arguments": r'{"a": "\ud83d"}'}),
        ('{"a":' * 200 + "1" + "}" * 200, {"arguments": '{"a":' * 200 + "1" + "}" * 200}),
    ],
    ids=["an object", "cut", "a list", "nothing", "no number", "half a character", "too deep"],
)
def test_arguments_that_are_no_object_are_kept_as_the_model_wrote_them(
    path: Path, written: str, arguments: dict[str, object]
) -> None:
    with JournalWriter(path, "one") as journal:
        journal.write_call(tokens_event([1], [2], content=[tool_call("call-1", "get_weather", written)]))

    assert read_journal(path).steps[0].tool_calls == (ToolCall("call-1", "get_weather", arguments),)


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path) -> None:
    write_calls(path, 2)
    whole = path.read_bytes()

    with (
        JournalWriter(path, "one") as journal,
        limited_files(len(whole) + 100),
        pytest.raises(OSError, match="large"),
    ):
        journal.write_call(tokens_event(range(1_000), [1]))

    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "token_in", [True, False], ids=["every prompt extends the last", "the last reply is rendered anew"]
)
def test_the_file_of_a_thousand_calls_grows_linearly(path: Path, token_in: bool) -> None:
    sizes = []
    with JournalWriter(path, "one") as journal:
        prompt = list(range(2_000))
        for count in range(1_000):
            sampled = [count] * 20
            journal.write_call(tokens_event(prompt, sampled))
            prompt = [*prompt, *(sampled if token_in else sampled[1:]), 1, 2, 3, 4, 5]
            sizes.append(journal.size)

    early, late = sizes[199] - sizes[99], sizes[999] - sizes[899]
    assert late < 1.1 * early
    assert sizes[-1] < 1_500_000


def write_calls(path: Path, count: int) -> None:
    with JournalWriter(path, "one") as journal:
        for _ in range(count):
            journal.write_call(tokens_event([1, 2], [3]))


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
