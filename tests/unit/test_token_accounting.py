"""Our token counts of recorded exchanges, compared with the server's own counts."""

from dataclasses import replace
from typing import Any

import pytest
from amplifier_core.message_models import Message, TextBlock, ThinkingBlock, ToolCallBlock, ToolSpec
from hypothesis import given
from hypothesis import strategies as st
from openai_harmony import Author, Conversation, HarmonyEncoding, RenderConversationConfig, Role
from openai_harmony import Message as HarmonyMessage

from amplifier_module_provider_vllm._ask import Ask
from amplifier_module_provider_vllm._harmony.count import count_input, count_usage
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from amplifier_module_provider_vllm._prompt import Prompt, PromptItem, Result, ToolText, User
from amplifier_module_provider_vllm._turn import (
    FunctionCall,
    Item,
    Reasoning,
    Status,
    Text,
    TokenUsage,
    Turn,
    is_counted,
    total_usage,
)
from tests.support.recordings import Recording, cases, load_recording
from tests.support.requests import ask_of
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
"""A random reply, half of which could not be parsed: missing text cannot be counted."""


@pytest.fixture(scope="module")
def encoding() -> HarmonyEncoding:
    found = Vocabulary(vocabulary_folder()).load()
    assert found is not None
    return found


def comparable() -> list[str]:
    """The recorded exchanges with requests like ours, an untruncated prompt and unconstrained output."""
    recordings = {case: load_recording(GPT_OSS, case) for case in cases(GPT_OSS)}
    return [case for case, recording in recordings.items() if case not in NONSENSE and _is_comparable(recording)]


def _is_comparable(recording: Recording) -> bool:
    request = recording.request
    if recording.status != 200 or "input" not in request or "text" in request or request.get("truncation") == "auto":
        return False
    ours = all(isinstance(tool.get("parameters"), dict) for tool in request.get("tools") or []) and all(
        map(_is_ours, _items(recording))
    )
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


def _ask(recording: Recording) -> Ask:
    """The recorded request as an Ask."""
    request = recording.request
    tools = [
        ToolSpec(name=tool["name"], description=tool.get("description"), parameters=tool["parameters"])
        for tool in request.get("tools") or []
        if tool["type"] == "function"
    ]
    ask = ask_of(request={"reasoning_effort": (request.get("reasoning") or {}).get("effort")}, harmony=True)
    items = tuple(map(_prompt_item, _items(recording)))
    return replace(ask, prompt=Prompt(items, request.get("instructions"), tuple(tools)))


def _prompt_item(item: dict[str, Any]) -> PromptItem:
    match item:
        case {"type": "reasoning", "content": [_, *_] as parts}:
            return Reasoning("\n".join(part["text"] for part in parts))
        case {"type": "function_call"}:
            return FunctionCall(item["call_id"], item["name"], item["arguments"])
        case {"type": "function_call_output"}:
            return Result(item["call_id"], (ToolText(_text(item["output"])),))
        case {"role": "assistant"}:
            return Text(_text(item["content"]))
        case _:
            return User((_text(item["content"]),))


def _text(content: Any) -> str:
    """Harmony has no images: vLLM makes an empty text of one."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def count_turn(encoding: HarmonyEncoding, *items: Item, status: Status = Status.COMPLETED) -> TokenUsage:
    return count_usage(encoding, ask_of(harmony=True), Turn(items, status))


@pytest.mark.parametrize("case", comparable())
def test_our_count_of_an_exchange_equals_the_servers(encoding: HarmonyEncoding, case: str) -> None:
    recording = load_recording(GPT_OSS, case)
    turn = turn_of(recording)

    usage = count_usage(encoding, _ask(recording), turn)

    assert turn.usage is not None
    assert usage.input_tokens == turn.usage.input_tokens
    assert abs(usage.output_tokens - turn.usage.output_tokens) <= 2


def test_enough_exchanges_are_compared() -> None:
    assert len(comparable()) > 40


def test_an_encoded_tool_turn_is_counted_as_the_library_renders_it(encoding: HarmonyEncoding) -> None:
    call = ToolCallBlock(id="call_1", name="get_weather", input={"city": "Saint-Étienne"})
    thinking = ThinkingBlock(thinking="I should look it up.")
    ask = ask_of(
        QUESTION,
        Message(role="assistant", content=[thinking, call]),
        Message(role="tool", tool_call_id="call_1", content="sunny <|end|>"),
        harmony=True,
    )

    rendered_messages = [
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
    assert count_input(encoding, ask) == _preamble(encoding) + _render_count(encoding, rendered_messages)


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(["<|end|>", "<|start|>user"]), min_size=1)
)
def test_any_text_is_counted_as_the_library_renders_it(encoding: HarmonyEncoding, texts: list[str]) -> None:
    ask = ask_of(*(Message(role="user", content=text) for text in texts), harmony=True)

    rendered_messages = [HarmonyMessage.from_role_and_content(Role.USER, text) for text in texts]
    assert count_input(encoding, ask) == _preamble(encoding) + _render_count(encoding, rendered_messages)


def test_reasoning_before_the_last_answer_is_not_in_the_prompt(encoding: HarmonyEncoding) -> None:
    answer = TextBlock(text="It is sunny.")
    thoughtful = Message(role="assistant", content=[ThinkingBlock(thinking="Let me think about it."), answer])
    curt = Message(role="assistant", content=[answer])

    first, second = (
        count_input(encoding, ask_of(QUESTION, message, QUESTION, harmony=True)) for message in (thoughtful, curt)
    )

    assert first == second


def test_effort_instructions_and_tools_are_in_the_prompt(encoding: HarmonyEncoding) -> None:
    system = Message(role="system", content="Be brief.")

    plain = count_input(encoding, ask_of(QUESTION, harmony=True))
    instructed = count_input(encoding, ask_of(system, QUESTION, harmony=True))
    equipped = count_input(encoding, ask_of(system, QUESTION, request={"tools": [WEATHER]}, harmony=True))

    assert plain < instructed < equipped
    assert ask_of(QUESTION, harmony=True).options.reasoning_effort is None
    for effort in ("low", "medium", "high"):  # each of them is one word
        ask = ask_of(QUESTION, request={"reasoning_effort": effort}, harmony=True)
        assert count_input(encoding, ask) == plain


def test_half_of_a_surrogate_pair_is_counted_as_what_is_sent_for_it(encoding: HarmonyEncoding) -> None:
    asks = [
        ask_of(
            Message(role="system", content=f"Be {character}."),
            Message(role="user", content=character),
            request={"tools": [ToolSpec(name="now", description=character, parameters={"title": character})]},
            harmony=True,
        )
        for character in ("\ud83d", "\N{REPLACEMENT CHARACTER}")
    ]

    odd, sent = (count_input(encoding, ask) for ask in asks)

    assert odd == sent


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
def test_the_output_count_is_that_of_the_models_raw_text(
    encoding: HarmonyEncoding, items: list[Item], status: Status, written: str
) -> None:
    usage = count_turn(encoding, *items, status=status)

    assert usage.output_tokens == len(encoding.encode(written, allowed_special="all"))


def test_our_own_counts_are_marked() -> None:
    ours, theirs = TokenUsage(10, 5, estimated=True), TokenUsage(10, 5)

    both = total_usage(theirs, ours)

    assert both == TokenUsage(20, 10, estimated=True)


@pytest.mark.parametrize(
    ("usage", "is_one"),
    [(None, False), (TokenUsage(0, 0), False), (TokenUsage(9, 0), True), (TokenUsage(9, 4), True)],
    ids=["none", "zeros", "nothing written", "both"],
)
def test_zero_counts_as_missing_usage(usage: TokenUsage | None, is_one: bool) -> None:
    assert is_counted(usage) is is_one


def _render_count(encoding: HarmonyEncoding, messages: list[HarmonyMessage]) -> int:
    conversation: Any = Conversation.from_messages(messages)
    return len(encoding.render_conversation_for_completion(conversation, Role.ASSISTANT, WITHOUT_DROPPING))


def _preamble(encoding: HarmonyEncoding) -> int:
    empty = ask_of(harmony=True)
    empty = replace(empty, prompt=replace(empty.prompt, items=()))
    return count_input(encoding, empty) - len(encoding.encode("<|start|>assistant", allowed_special="all"))
