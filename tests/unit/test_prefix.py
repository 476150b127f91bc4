"""The encoding of a history is a prefix of the encoding of a longer one, as vLLM's prefix cache needs it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from amplifier_core.message_models import (
    ChatRequest,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._ask import to_prompt_items
from amplifier_module_provider_vllm._chat_messages import chat_messages
from amplifier_module_provider_vllm._tool_repair import repair_tool_sequence
from amplifier_module_provider_vllm._turn import FunctionCall, Status, Turn
from tests.support.recordings import load_recording
from tests.support.requests import ask_of, encode_messages
from tests.support.rounds import MODELS, response_of, streams_of, turn_of

REPLIES = [stream for stream in streams_of(*MODELS) if "cut" not in stream[1]]

texts = st.sampled_from(["Hello", "", " ", "two\nlines", "<|im_end|>", "\ud800", "世"])
contents = st.one_of(
    texts,
    st.lists(
        st.one_of(
            texts.map(lambda text: TextBlock(text=text)),
            st.just(ImageBlock(source={"type": "url", "url": "http://there/a.png"})),
        ),
        min_size=1,
        max_size=3,
    ),
)
FIRST = Message(role="user", content="First.")
arguments = st.dictionaries(st.sampled_from(["a", "b"]), texts, max_size=2)


@st.composite
def tool_turn(draw: st.DrawFn) -> list[Message]:
    """An assistant's turn with its calls in one of the shapes that loops store, and a result for each."""
    blocks_before: list[Any] = [TextBlock(text=text) for text in draw(st.lists(texts, max_size=2))]
    blocks_before += [ThinkingBlock(thinking=text) for text in draw(st.lists(texts, max_size=1))]
    blocks_before = draw(st.permutations(blocks_before))
    made = draw(st.lists(arguments, min_size=1, max_size=3))
    nameless = draw(st.booleans())
    ids = ["" if nameless else f"call_{draw(st.integers(0, 1_000_000))}_{n}" for n in range(len(made))]
    blocks = [ToolCallBlock(id=one, name="f", input=args) for one, args in zip(ids, made, strict=True)]
    stored = [{"id": one, "tool": "f", "arguments": args} for one, args in zip(ids, made, strict=True)]
    extra: dict[str, Any] = {"tool_calls": stored} if draw(st.booleans()) else {}
    content = [*blocks_before, *(blocks if not extra or draw(st.booleans()) else [])]
    if draw(st.booleans()):
        results = [Message(role="tool", tool_call_id=one, name="f", content=draw(contents)) for one in ids]
    else:
        results = [Message(role="user", content=[ToolResultBlock(tool_call_id=one, output=draw(texts)) for one in ids])]
    between = [Message(role="system", content=text) for text in draw(st.lists(texts, max_size=1))]
    return [Message(role="assistant", content=content, **extra), *between, *results]


turns = st.one_of(
    st.builds(lambda content: [Message(role="user", content=content)], contents),
    st.builds(lambda text: [Message(role="assistant", content=text)], texts),
    st.builds(lambda role, text: [Message(role=role, content=text)], st.sampled_from(["system", "developer"]), texts),
    tool_turn(),
)


def items(turns_: Sequence[Sequence[Message]], *, harmony: bool) -> list[dict[str, Any]]:
    """The encoded input of a question and the turns after it."""
    messages = [FIRST, *(message for turn in turns_ for message in turn)]
    sent: list[dict[str, Any]] = encode_messages(*repair_tool_sequence(messages).messages, harmony=harmony)["input"]
    return sent


def is_prefix(shorter: object, longer: object) -> bool:
    match shorter, longer:
        case str(), str():
            return longer.startswith(shorter)
        case list(), list():
            return longer[: len(shorter)] == shorter
        case Mapping(), Mapping():
            return shorter.keys() == longer.keys() and all(is_prefix(shorter[key], longer[key]) for key in shorter)
        case _:
            return shorter == longer


@given(st.lists(turns, max_size=8), st.integers(0, 8), st.booleans())
def test_the_encoding_of_a_history_is_a_prefix_of_the_longer_one(
    history: list[list[Message]], cut: int, harmony: bool
) -> None:
    shorter, longer = items(history[:cut], harmony=harmony), items(history, harmony=harmony)

    assert shorter[:-1] == longer[: len(shorter) - 1]
    assert is_prefix(shorter[-1], longer[len(shorter) - 1])


def messages(turns_: Sequence[Sequence[Message]], *, harmony: bool) -> list[dict[str, Any]]:
    """The messages of a chat for a question and the turns after it."""
    history = [FIRST, *(message for turn in turns_ for message in turn)]
    return chat_messages(ask_of(*repair_tool_sequence(history).messages, harmony=harmony))


def has_grown(shorter: Mapping[str, Any], longer: Mapping[str, Any]) -> bool:
    """Whether the longer message is the shorter one with more calls, fields, or text attached to its end."""
    return shorter.keys() <= longer.keys() and all(is_prefix(part, longer[key]) for key, part in shorter.items())


@given(st.lists(turns, max_size=8), st.integers(0, 8), st.booleans())
def test_the_messages_of_a_history_are_the_first_of_the_longer_one(
    history: list[list[Message]], cut: int, harmony: bool
) -> None:
    shorter, longer = messages(history[:cut], harmony=harmony), messages(history, harmony=harmony)

    assert shorter[:-1] == longer[: len(shorter) - 1]
    assert has_grown(shorter[-1], longer[len(shorter) - 1])


@given(st.lists(turns, max_size=6), st.booleans())
def test_the_same_history_is_encoded_to_the_same_bytes(history: list[list[Message]], harmony: bool) -> None:
    assert repr(items(history, harmony=harmony)) == repr(items(history, harmony=harmony))


@given(st.lists(turns, max_size=6), texts, texts)
def test_a_changing_reminder_changes_only_the_last_item(history: list[list[Message]], first: str, second: str) -> None:
    plain = items(history, harmony=False)

    reminded = [items([*history, [Message(role="system", content=text)]], harmony=False) for text in (first, second)]

    assert all(sent[: len(plain) - 1] == plain[:-1] for sent in reminded)
    assert all(len(sent) <= len(plain) + 1 for sent in reminded)


def stored_by_loop_basic(reply: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [block.model_dump() for block in reply.content],
        "tool_calls": [
            {"id": call.id, "tool": call.name, "arguments": call.arguments} for call in reply.tool_calls or []
        ],
        "metadata": reply.metadata,
    }


def stored_by_loop_streaming(reply: Any) -> dict[str, Any]:
    thoughts = [block.model_dump() for block in reply.content if block.type == "thinking"]
    return stored_by_loop_basic(reply) | {"thinking_block": thoughts[0] if thoughts else None}


def stored_in_a_file(reply: Any) -> dict[str, Any]:
    """Amplifier's session files drop what is None."""
    stored: dict[str, Any] = ChatRequest(messages=[Message(**stored_by_loop_basic(reply))]).model_dump(
        exclude_none=True
    )["messages"][0]
    return stored


@pytest.mark.parametrize("harmony", [False, True], ids=["chat template", "Harmony"])
@pytest.mark.parametrize("store", [stored_by_loop_basic, stored_by_loop_streaming, stored_in_a_file])
@pytest.mark.parametrize(("group", "case"), REPLIES)
def test_a_stored_reply_is_sent_back_unchanged(group: str, case: str, store: Any, harmony: bool) -> None:
    turn = turn_of(load_recording(group, case))
    stored = Message(**store(response_of(turn)))

    asked_again = ask_of(*repair_tool_sequence([FIRST, stored]).messages, harmony=harmony)

    _question, *sent = asked_again.items
    assert sent[: len(turn.items)] == list(to_prompt_items(turn.items))


@pytest.mark.parametrize("store", [stored_by_loop_basic, stored_in_a_file])
def test_arguments_are_sent_back_byte_for_byte(store: Any) -> None:
    turn = Turn((FunctionCall("call_1", "look", '{"where":"here",  "deep":1}'),), Status.COMPLETED)
    stored = Message(**store(response_of(turn)))

    _question, call, *_result = items([[stored]], harmony=True)

    assert call["arguments"] == '{"where":"here",  "deep":1}'


def test_arguments_changed_by_a_session_are_sent_changed() -> None:
    turn = Turn((FunctionCall("call_1", "look", '{"where":"here"}'),), Status.COMPLETED)
    stored = stored_in_a_file(response_of(turn))
    stored["content"][0]["input"] = {"where": "there"}

    _question, call, *_result = items([[Message(**stored)]], harmony=True)

    assert call["arguments"] == '{"where": "there"}'
