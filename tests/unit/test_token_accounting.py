"""What a request and its reply cost, against what a real server counted for the same ones."""

from typing import Any

import pytest
from amplifier_core.message_models import Message, TextBlock, ThinkingBlock, ToolCallBlock, ToolSpec
from hypothesis import given
from hypothesis import strategies as st
from openai_harmony import Author, Conversation, HarmonyEncoding, RenderConversationConfig, Role
from openai_harmony import Message as HarmonyMessage

from amplifier_module_provider_vllm._continuation import summed
from amplifier_module_provider_vllm._harmony.count import count_input, count_usage, is_counted
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from amplifier_module_provider_vllm._turn import FunctionCall, Item, Reasoning, Status, Text, TokenUsage, Turn
from tests.support.recordings import Recording, cases, recorded
from tests.support.requests import encoded
from tests.support.rounds import turn_of
from tests.support.vocabulary import vocabulary_folder

GPT_OSS = "tiny-gpt-oss"
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
QUESTION = Message(role="user", content="What is the weather in Paris?")
WITHOUT_DROPPING = RenderConversationConfig(auto_drop_analysis=False)

NONSENSE = {"r1_no_sampling_params_stream"}
"""A reply at random, of which half did not parse: what is not said cannot be counted."""


@pytest.fixture(scope="module")
def encoding() -> HarmonyEncoding:
    found = Vocabulary(vocabulary_folder()).load()
    assert found is not None
    return found


def comparable() -> list[str]:
    """The recorded exchanges that were asked as we ask, came whole to the model, and wrote what it chose to."""
    asked = {case: recorded(GPT_OSS, case) for case in cases(GPT_OSS)}
    return [case for case, recording in asked.items() if case not in NONSENSE and _is_comparable(recording)]


def _is_comparable(recording: Recording) -> bool:
    request = recording.request
    if recording.status != 200 or "input" not in request or "text" in request or request.get("truncation") == "auto":
        return False
    ours = all("parameters" in tool for tool in request.get("tools") or []) and all(map(_is_ours, _items(recording)))
    return ours and bool(turn_of(recording).items)


def _is_ours(item: dict[str, Any]) -> bool:
    match item:
        case {"role": "assistant", "content": [*parts]} | {"type": "reasoning", "content": [_, *_] as parts}:
            return all("text" in part for part in parts)
        case {"role": role}:
            return bool(role == "user")
        case _:
            return item["type"] in ("function_call", "function_call_output")


def _items(recording: Recording) -> list[dict[str, Any]]:
    """The input, its messages with the type that they may leave out."""
    given = recording.request["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return [{"type": "message", **item} for item in items]


def counted(encoding: HarmonyEncoding, *items: Item, status: Status = Status.COMPLETED) -> TokenUsage:
    return count_usage(encoding, encoded(harmony=True).params, Turn(items, status))


@pytest.mark.parametrize("case", comparable())
def test_the_count_of_an_exchange_is_the_servers(encoding: HarmonyEncoding, case: str) -> None:
    recording = recorded(GPT_OSS, case)
    turn = turn_of(recording)

    usage = count_usage(encoding, {**recording.request, "input": _items(recording)}, turn)

    assert turn.usage is not None
    assert usage.input_tokens == turn.usage.input_tokens
    assert abs(usage.output_tokens - turn.usage.output_tokens) <= 2


def test_enough_exchanges_are_compared() -> None:
    assert len(comparable()) > 40


def test_what_the_encoder_makes_of_a_tool_turn_is_counted_as_the_library_renders_it(encoding: HarmonyEncoding) -> None:
    call = ToolCallBlock(id="call_1", name="get_weather", input={"city": "Saint-Étienne"})
    thinking = ThinkingBlock(thinking="I should look it up.")
    params = encoded(
        QUESTION,
        Message(role="assistant", content=[thinking, call]),
        Message(role="tool", tool_call_id="call_1", content="sunny <|end|>"),
        harmony=True,
    ).params

    said = [
        HarmonyMessage.from_role_and_content(Role.USER, str(QUESTION.content)),
        HarmonyMessage.from_role_and_content(Role.ASSISTANT, thinking.thinking).with_channel("analysis"),
        HarmonyMessage.from_role_and_content(Role.ASSISTANT, '{"city": "Saint-Étienne"}')
        .with_channel("commentary")
        .with_recipient("functions.get_weather")
        .with_content_type("json"),
        HarmonyMessage.from_author_and_content(Author.new(Role.TOOL, "functions.get_weather"), "sunny <|end|>")
        .with_channel("commentary")
        .with_recipient("assistant"),
    ]
    assert count_input(encoding, params) == _preamble(encoding) + _rendered(encoding, said)


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(["<|end|>", "<|start|>user"]), min_size=1)
)
def test_any_text_is_counted_as_the_library_renders_it(encoding: HarmonyEncoding, texts: list[str]) -> None:
    params = {"input": [{"type": "message", "role": "user", "content": text} for text in texts]}

    said = [HarmonyMessage.from_role_and_content(Role.USER, text) for text in texts]
    assert count_input(encoding, params) == _preamble(encoding) + _rendered(encoding, said)


def test_reasoning_before_the_last_answer_is_not_in_the_prompt(encoding: HarmonyEncoding) -> None:
    answer = TextBlock(text="It is sunny.")
    thoughtful = Message(role="assistant", content=[ThinkingBlock(thinking="Let me think about it."), answer])
    curt = Message(role="assistant", content=[answer])

    first, second = (
        count_input(encoding, encoded(QUESTION, message, QUESTION, harmony=True).params)
        for message in (thoughtful, curt)
    )

    assert first == second


def test_effort_instructions_and_tools_are_in_the_prompt(encoding: HarmonyEncoding) -> None:
    system = Message(role="system", content="Be brief.")

    plain = count_input(encoding, encoded(QUESTION, harmony=True).params)
    instructed = count_input(encoding, encoded(system, QUESTION, harmony=True).params)
    equipped = count_input(encoding, encoded(system, QUESTION, request={"tools": [WEATHER]}, harmony=True).params)

    assert plain < instructed < equipped
    assert "reasoning" not in encoded(QUESTION, harmony=True).params
    for effort in ("low", "medium", "high"):  # each of them is one word
        asked = encoded(QUESTION, request={"reasoning_effort": effort}, harmony=True).params
        assert count_input(encoding, asked) == plain


@pytest.mark.parametrize(
    ("items", "status", "written"),
    [
        pytest.param([Text("Hi.")], Status.COMPLETED, "<|channel|>final<|message|>Hi.<|return|>", id="answer"),
        pytest.param([Text("Hi.")], Status.INCOMPLETE, "<|channel|>final<|message|>Hi.", id="cut answer"),
        pytest.param(
            [Reasoning("Hm."), Text("Wait."), FunctionCall("c", "now", "{}")],
            Status.COMPLETED,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>Wait.<|end|>"
            "<|start|>assistant<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}<|call|>",
            id="thought, preamble and call",
        ),
        pytest.param(
            [Reasoning("Hm."), Text("<|start|>assistant<|channel|>commentary to=")],
            Status.INCOMPLETE,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=",
            id="cut in a header",
        ),
        pytest.param([Text("<|channel|>ana")], Status.INCOMPLETE, "<|channel|>ana", id="cut in the first header"),
        pytest.param([Text(" in Paris.<|return|>")], Status.COMPLETED, " in Paris.<|return|>", id="without a header"),
        pytest.param([], Status.INCOMPLETE, "", id="nothing"),
    ],
)
def test_the_output_is_what_the_model_wrote(
    encoding: HarmonyEncoding, items: list[Item], status: Status, written: str
) -> None:
    usage = counted(encoding, *items, status=status)

    assert usage.output_tokens == len(encoding.encode(written, allowed_special="all"))


def test_counts_of_ours_say_so() -> None:
    ours, theirs = TokenUsage(10, 5, estimated=True), TokenUsage(10, 5)

    both = summed(theirs, ours)

    assert both == TokenUsage(20, 10, estimated=True)


@pytest.mark.parametrize(
    ("usage", "is_one"),
    [(None, False), (TokenUsage(0, 0), False), (TokenUsage(9, 0), True), (TokenUsage(9, 4), True)],
    ids=["none", "zeros", "nothing written", "both"],
)
def test_zeros_are_no_count(usage: TokenUsage | None, is_one: bool) -> None:
    assert is_counted(usage) is is_one


def _rendered(encoding: HarmonyEncoding, messages: list[HarmonyMessage]) -> int:
    conversation: Any = Conversation.from_messages(messages)
    return len(encoding.render_conversation_for_completion(conversation, Role.ASSISTANT, WITHOUT_DROPPING))


def _preamble(encoding: HarmonyEncoding) -> int:
    return count_input(encoding, {"input": []}) - len(encoding.encode("<|start|>assistant", allowed_special="all"))
