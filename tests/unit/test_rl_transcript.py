"""The readable side of a journal: each message of a session's context once, whatever the context manager does to it."""

from pathlib import Path
from typing import Any, TypeAlias

import pytest

from amplifier_module_provider_vllm.rl import JournalWriter, Observation, Step, read_journal
from amplifier_module_provider_vllm.rl.transcript import write_new_messages
from tests.support.token_events import tokens_event, tool_call

Message: TypeAlias = dict[str, Any]

SYSTEM: Message = {"role": "system", "content": "Be brief."}
YES: Message = {"role": "user", "content": "yes"}
REPLY: Message = {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]}
RESULT: Message = {"role": "tool", "name": "get_weather", "tool_call_id": "call-1", "content": "sunny"}
DENIED: Message = {"role": "tool", "tool_call_id": "call-1", "content": "Denied by hook: no."}
CALL = tokens_event([1], [2])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.journal"


def told(path: Path, *histories: list[Message]) -> list[tuple[str, str]]:
    """What is read of a session in which a call was made after each of these histories."""
    with JournalWriter(path, "one") as journal:
        for history in histories:
            write_new_messages(journal, history)
            journal.write_call(CALL)
    return [(step.source, step.message) for step in read_journal(path).steps]


def test_a_message_is_written_once_and_one_that_is_said_again_is_another(path: Path) -> None:
    history = [SYSTEM, YES, REPLY, YES]

    assert told(path, history[:2], history, [*history, REPLY, YES]) == [
        ("system", "Be brief."),
        ("user", "yes"),
        ("agent", "Hello."),
        ("user", "yes"),
        ("agent", "Hello."),
        ("user", "yes"),
        ("agent", "Hello."),
    ]


def test_what_was_said_before_the_first_call_is_taken_from_the_context(path: Path) -> None:
    assert told(path, [YES, REPLY, YES])[:3] == [("user", "yes"), ("agent", "Hello."), ("user", "yes")]


@pytest.mark.parametrize("result", [RESULT, DENIED], ids=["of a tool", "of a hook that denied the call"])
def test_a_result_belongs_to_the_step_with_its_call(path: Path, result: Message) -> None:
    with JournalWriter(path, "one") as journal:
        journal.write_call(CALL | {"content": [tool_call("call-1")]})
        write_new_messages(journal, [YES, REPLY, result])

    step, _ = read_journal(path).steps

    assert step.observations == (Observation("call-1", result["content"]),)


def test_an_error_of_our_tool_validation_is_written_as_the_model_reads_it(path: Path) -> None:
    denied = DENIED | {"content": "Denied by hook: Error: unknown tool: get_wether | allowed_tools=[get_weather]"}
    with JournalWriter(path, "one") as journal:
        journal.write_call(CALL | {"content": [tool_call("call-1")]})
        for _ in range(2):
            write_new_messages(journal, [YES, REPLY, denied])

    observations = [one for step in read_journal(path).steps for one in step.observations]

    assert [one.content for one in observations] == ["Error: unknown tool: get_wether | allowed_tools=[get_weather]"]


def test_a_result_without_its_call_is_told_as_a_message(path: Path) -> None:
    assert told(path, [RESULT]) == [("user", "sunny"), ("agent", "Hello.")]


def test_a_compacted_history_goes_on_behind_the_last_message_that_was_written(path: Path) -> None:
    full = [SYSTEM, *({"role": "user", "content": f"question {number}"} for number in range(10))]
    compacted = [SYSTEM, {"role": "user", "content": "summary"}, full[-1], REPLY, YES]

    assert told(path, full, compacted)[-2:] == [("user", "yes"), ("agent", "Hello.")]
    assert len(read_journal(path).steps) == len(full) + 3


def test_a_history_without_the_last_message_is_written_whole(path: Path) -> None:
    summary = {"role": "system", "content": "The user agreed."}

    assert told(path, [SYSTEM, YES], [summary, REPLY])[3:] == [("system", "The user agreed."), ("agent", "Hello.")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "image", "source": {"data": "iVBOR"}}, {"type": "text", "text": "look"}], "[image]\nlook"),
        ([{"type": "tool_result", "tool_call_id": "a", "output": {"city": "Paris"}}], "{'city': 'Paris'}"),
        ([{"type": "thinking", "thinking": "hm"}], ""),
        (None, ""),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_the_text_of_a_message(path: Path, content: object, text: str) -> None:
    message = {"role": "user", "content": content}

    assert told(path, [message], [message])[:1] == [("user", text)]
    assert [step.source for step in read_journal(path).steps] == ["user", "agent", "agent"]


def test_a_journal_that_is_opened_again_goes_on_behind_the_messages_in_it(path: Path) -> None:
    told(path, [SYSTEM, YES])

    assert told(path, [SYSTEM, YES, REPLY, YES])[3:] == [("user", "yes"), ("agent", "Hello.")]


def test_the_time_of_a_message_is_that_of_the_context_manager(path: Path) -> None:
    with JournalWriter(path, "one") as journal:
        write_new_messages(journal, [YES | {"metadata": {"timestamp": "2026-11-22T10:00:00.000Z"}}])

    assert read_journal(path).steps == (Step("user", "yes", timestamp="2026-11-22T10:00:00.000Z"),)
