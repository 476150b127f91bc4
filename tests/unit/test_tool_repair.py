"""After the repair every call has a result and every result a call; the caller's history is not modified."""

from typing import Any

import pytest
from amplifier_core.message_models import ImageBlock, Message, TextBlock, ToolCallBlock, ToolResultBlock
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._tool_repair import NO_RESULT, RepairedHistory, repair_tool_sequence

IMAGE = ImageBlock(source={"type": "url", "url": "http://there/a.png"})
HELLO = Message(role="user", content="Hello")
ANSWER = Message(role="assistant", content="Hi")
NOTE = "[Earlier result of a tool, whose call is no longer in the conversation]"


def calls(*ids: str) -> Message:
    return Message(role="assistant", content=[ToolCallBlock(id=one, name="look", input={}) for one in ids])


def loop_calls(*ids: str) -> Message:
    stored: dict[str, Any] = {"tool_calls": [{"id": one, "tool": "look", "arguments": {}} for one in ids]}
    return Message(role="assistant", content="", **stored)


def result(call_id: str, content: Any = "seen") -> Message:
    return Message(role="tool", tool_call_id=call_id, content=content)


def blocks(role: Any, *ids: str) -> Message:
    return Message(role=role, content=[ToolResultBlock(tool_call_id=one, output="seen") for one in ids])


def note(text: str) -> Message:
    return Message(role="user", content=[TextBlock(text=NOTE), TextBlock(text=text)])


def user_text(text: str) -> Message:
    return Message(role="user", content=text)


def synthetic_result(call_id: str) -> Message:
    return result(call_id, NO_RESULT)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [HELLO, ANSWER],
        [HELLO, calls("a"), result("a"), ANSWER],
        [HELLO, calls("a", "b"), result("b"), result("a"), ANSWER],
        [HELLO, loop_calls("a"), Message(role="function", tool_call_id="a", content="seen")],
        [HELLO, calls("a", "b"), blocks("tool", "a", "b")],
        [HELLO, calls("a", "b"), blocks("user", "a", "b")],
        [HELLO, calls("a"), result("a"), HELLO, calls("a"), result("a")],
    ],
    ids=[
        "nothing", "no tools", "a pair", "parallel", "a loop's calls", "result blocks", "results of a user",
        "an id used twice",
    ],
)  # fmt: skip
def test_a_consistent_history_is_not_changed(messages: list[Message]) -> None:
    repaired = repair_tool_sequence(messages)

    assert repaired.messages == messages
    assert (repaired.unanswered, repaired.orphaned) == ([], [])


@pytest.mark.parametrize(
    ("messages", "expected", "unanswered"),
    [
        ([HELLO, calls("a")], [HELLO, calls("a"), synthetic_result("a")], ["a"]),
        ([calls("a"), HELLO], [calls("a"), synthetic_result("a"), HELLO], ["a"]),
        ([loop_calls("a"), HELLO], [loop_calls("a"), synthetic_result("a"), HELLO], ["a"]),
        (
            [calls("a", "b", "c"), result("b"), HELLO],
            [calls("a", "b", "c"), result("b"), synthetic_result("a"), synthetic_result("c"), HELLO],
            ["a", "c"],
        ),
        ([calls("a"), calls("b"), result("b")], [calls("a"), synthetic_result("a"), calls("b"), result("b")], ["a"]),
        (
            [calls("a"), result("a"), HELLO, calls("a"), HELLO],
            [calls("a"), result("a"), HELLO, calls("a"), synthetic_result("a"), HELLO],
            ["a"],
        ),
        (
            [calls("a"), HELLO, calls("a"), result("a")],
            [calls("a"), synthetic_result("a"), HELLO, calls("a"), result("a")],
            ["a"],
        ),
    ],
    ids=[
        "at the end", "before a question", "a loop's call", "one of several", "before another call",
        "the second call of an id", "the first call of an id",
    ],
)  # fmt: skip
def test_a_call_without_a_result_gets_a_synthetic_one(
    messages: list[Message], expected: list[Message], unanswered: list[str]
) -> None:
    repaired = repair_tool_sequence(messages)

    assert repaired.messages == expected
    assert (repaired.unanswered, repaired.orphaned) == (unanswered, [])


@pytest.mark.parametrize(
    ("messages", "expected", "orphaned"),
    [
        ([result("a"), HELLO], [user_text(f"{NOTE}\nseen"), HELLO], ["a"]),
        (
            [Message(role="tool", name="look", tool_call_id="a", content="seen")],
            [user_text(NOTE.replace("a tool", "look") + "\nseen")],
            ["a"],
        ),
        (
            [result("a", [TextBlock(text="seen"), IMAGE])],
            [Message(role="user", content=[TextBlock(text=NOTE), TextBlock(text="seen"), IMAGE])],
            ["a"],
        ),
        (
            [calls("a"), blocks("tool", "a", "b")],
            [calls("a"), blocks("tool", "a"), note("seen")],
            ["b"],
        ),
        (
            [blocks("user", "b")],
            [note("seen")],
            ["b"],
        ),
        (
            [Message(role="tool", content=[ToolResultBlock(tool_call_id="b", output={"t": "é"})])],
            [note('{"t": "é"}')],
            ["b"],
        ),
    ],
    ids=["a text", "a named tool", "an image", "one of two blocks", "of a user", "an object"],
)  # fmt: skip
def test_a_result_without_a_call_becomes_a_note(
    messages: list[Message], expected: list[Message], orphaned: list[str]
) -> None:
    repaired = repair_tool_sequence(messages)

    assert repaired.messages == expected
    assert (repaired.unanswered, repaired.orphaned) == ([], orphaned)


def test_a_result_before_its_call_is_an_orphan() -> None:
    repaired = repair_tool_sequence([result("a"), calls("a"), HELLO])

    assert repaired.messages == [user_text(f"{NOTE}\nseen"), calls("a"), synthetic_result("a"), HELLO]


def test_a_synthetic_result_comes_before_the_following_note() -> None:
    repaired = repair_tool_sequence([calls("a"), result("b")])

    assert repaired.messages == [calls("a"), synthetic_result("a"), user_text(f"{NOTE}\nseen")]


def test_a_call_stored_twice_is_one_call() -> None:
    stored: dict[str, Any] = {"tool_calls": [{"id": "a", "tool": "look"}, {"id": "b", "tool": "look"}]}

    repaired = repair_tool_sequence([Message(role="assistant", content=calls("a").content, **stored)])

    assert repaired.unanswered == ["a", "b"]


@pytest.mark.parametrize("stored", [None, []])
def test_an_empty_tool_calls_field_is_allowed(stored: object) -> None:
    extra: dict[str, Any] = {"tool_calls": stored}

    history = [Message(role="assistant", content="Hi", **extra)]

    assert repair_tool_sequence(history) == RepairedHistory(history)


ids = st.sampled_from(["a", "b", "c"])
histories = st.lists(
    st.one_of(
        st.just(HELLO),
        st.just(ANSWER),
        st.lists(ids, min_size=1, max_size=3, unique=True).map(lambda made: calls(*made)),
        st.builds(result, ids),
        st.lists(ids, min_size=1, max_size=3, unique=True).map(lambda made: blocks("user", *made)),
    ),
    max_size=10,
)


@given(histories)
def test_any_history_becomes_consistent_and_the_callers_is_not_modified(messages: list[Message]) -> None:
    before = [message.model_copy(deep=True) for message in messages]

    repaired = repair_tool_sequence(messages)

    again = repair_tool_sequence(repaired.messages)
    assert messages == before
    assert again.messages == repaired.messages
    assert (again.unanswered, again.orphaned) == ([], [])
