"""One history is the same prompt on every endpoint: as messages, as items, and as what the server counts."""

from dataclasses import replace
from typing import Any

import pytest
from amplifier_core.message_models import ImageBlock, Message, TextBlock, ThinkingBlock, ToolCallBlock, ToolSpec
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._ask import Ask
from amplifier_module_provider_vllm._chat.encode import encode as encode_chat
from amplifier_module_provider_vllm._chat_messages import chat_messages, chat_tools
from amplifier_module_provider_vllm._prompt import Prompt, PromptItem, Result, ToolText, User
from amplifier_module_provider_vllm._responses.encode import encode as encode_responses
from amplifier_module_provider_vllm._strict_json import wire_text
from amplifier_module_provider_vllm._tokenize import count_bodies
from amplifier_module_provider_vllm._tool_repair import repair_tool_sequence
from amplifier_module_provider_vllm._turn import FunctionCall, Reasoning, Text
from tests.support.recordings import cases, load_recording
from tests.support.request_strategies import valid_messages
from tests.support.requests import HELLO, ask_of

QWEN, GPT_OSS = "chat/tiny-qwen3-scale-out", "chat/tiny-gpt-oss-scale-out"
NOT_OURS = {
    "late_system",  # attached to the item before it
    "late_developer",
    "open_reasoning",  # not continued by messages
    "open_text",  # has a test of its own
    "tool_turn_raw_reasoning",  # white space alone is not in a prompt
    "user_parts",  # text parts are one string
}
NOT_OF_THE_MODEL = {
    QWEN: {"preamble_split"},  # two messages are two turns
    GPT_OSS: {"effort_none", "preamble_said"},  # refused; the text would stand before the reasoning
}
CALL = ToolCallBlock(id="call_1", name="get_weather", input={"city": "Paris"})
SENT_CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
CALLED = Message(role="assistant", content=[CALL])
PNG = ImageBlock(source={"type": "base64", "media_type": "image/png", "data": "QUJD"})


def result(content: Any) -> Message:
    return Message(role="tool", tool_call_id="call_1", content=content)


def histories() -> list[tuple[str, str]]:
    names = [case.removeprefix("eq_").removesuffix("_chat") for case in cases(QWEN, "eq_*_chat")]
    return [(group, name) for group, excluded in NOT_OF_THE_MODEL.items() for name in names
            if name not in NOT_OURS | excluded]  # fmt: skip


def ask_of_items(request: dict[str, Any]) -> Ask:
    """The Ask of a recorded request to /v1/responses."""
    settings = {
        "reasoning_effort": request.get("reasoning", {}).get("effort"),
        "tool_choice": request.get("tool_choice"),
        "response_format": _format(request),
    }
    extra = {key: request[key] for key in ("chat_template_kwargs",) if key in request}
    ask = ask_of(request=settings, overrides={"extra_request_params": extra}, model=request["model"])
    given = request["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    calling = any(item.get("type") == "function_call" for item in items)
    tools = tuple(ToolSpec(**{"name": tool["name"], **tool, "type": "function"}) for tool in request.get("tools", []))
    prompt = Prompt(
        tuple(_item(item, calling) for item in items), request.get("instructions"), tools, ask.prompt.format
    )
    return replace(ask, prompt=prompt)


def _format(request: dict[str, Any]) -> dict[str, Any] | None:
    match request.get("text"):
        case {"format": {"name": name, "schema": schema}}:
            return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
        case _:
            return None


def _item(item: dict[str, Any], calling: bool) -> PromptItem:
    match item:
        case {"type": "reasoning", "content": [{"text": text}]}:
            return Reasoning(text)
        case {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}:
            return FunctionCall(call_id, name, arguments)
        case {"type": "function_call_output", "call_id": call_id, "output": output}:
            return Result(call_id, (ToolText(output),))
        case {"role": "assistant", "content": [{"text": text}]}:
            return Text(text, beside_calls=calling and item["id"] == "msg_1")
        case _:
            return User((item["content"],))


def without_defaults(body: dict[str, Any]) -> dict[str, Any]:
    """The body without what does not change the prompt, and its messages without empty content."""
    dropped = {"stream", "stream_options", "parallel_tool_calls", "temperature", "max_tokens"}
    kept = {key: value for key, value in body.items() if key not in dropped}
    return kept | {"messages": [without_empty(message) for message in body["messages"]]}


def without_empty(message: dict[str, Any]) -> dict[str, Any]:
    content = {"content": message["content"]} if message.get("content") else {}
    rest = {key: value for key, value in message.items() if key not in ("content", "reasoning_content")}
    return rest | content


@pytest.mark.parametrize(("group", "history"), histories())
def test_the_server_rendered_the_same_prompt_for_the_messages_and_the_items_of_a_history(
    group: str, history: str
) -> None:
    chat, responses = (load_recording(group, f"eq_{history}_{endpoint}") for endpoint in ("chat", "responses"))

    ask = ask_of_items(responses.request)

    assert without_defaults(encode_chat(ask)) == without_defaults(chat.request)
    if history != "preamble_split":  # says more than items can
        assert chat.json["token_ids"] == responses.json["token_ids"]


@pytest.mark.parametrize("history", [history for group, history in histories() if group == QWEN])
def test_the_messages_that_are_counted_are_those_that_are_sent(history: str) -> None:
    recording = load_recording(QWEN, f"eq_{history}_tokenize")
    ask = ask_of_items(load_recording(QWEN, f"eq_{history}_responses").request)

    (path, counted), _ = count_bodies(ask)

    assert path == "/tokenize"
    assert [without_empty(message) for message in counted["messages"]] == [
        without_empty(message) for message in recording.request["messages"]
    ]
    assert counted.get("tools") == recording.request.get("tools")


def test_an_open_text_is_continued_with_the_text_as_it_is() -> None:
    recording = load_recording(QWEN, "eq_open_text_chat")
    question = ask_of(Message(role="user", content="Count from 1 to 100."), model="tiny-qwen3")

    sent = encode_chat(replace(question, reply=(Reasoning("I will count."), Text("1, 2, 3,"))))

    assert without_defaults(sent) == without_defaults(recording.request) | {"reasoning_effort": "none"}


THOUGHT, SAID = ThinkingBlock(thinking="I should look."), TextBlock(text="I will look.")


@pytest.mark.parametrize(
    ("blocks", "template", "harmony"),
    [
        (
            [THOUGHT, SAID, CALL],
            [{"reasoning": "I should look.", "content": "I will look.", "tool_calls": [SENT_CALL]}],
            [{"reasoning": "I should look."}, {"content": "I will look.", "tool_calls": [SENT_CALL]}],
        ),
        (
            [SAID, THOUGHT, CALL],
            [{"content": "I will look.", "reasoning": "I should look.", "tool_calls": [SENT_CALL]}],
            [{"reasoning": "I will look."}, {"reasoning": "I should look.", "tool_calls": [SENT_CALL]}],
        ),
        (
            [THOUGHT, THOUGHT, CALL],
            [{"reasoning": "I should look."}, {"reasoning": "I should look.", "tool_calls": [SENT_CALL]}],
            [{"reasoning": "I should look."}, {"reasoning": "I should look.", "tool_calls": [SENT_CALL]}],
        ),
        (
            [THOUGHT, SAID],
            [{"reasoning": "I should look.", "content": "I will look."}],
            [{"reasoning": "I should look.", "content": "I will look."}],
        ),
        (
            [SAID, THOUGHT, SAID],
            [{"content": "I will look.", "reasoning": "I should look."}, {"content": "I will look."}],
            [{"content": "I will look."}, {"reasoning": "I should look.", "content": "I will look."}],
        ),
        (
            [CALL, CALL.model_copy(update={"id": "call_2"})],
            [{"tool_calls": [SENT_CALL, SENT_CALL | {"id": "call_2"}]}],
            [{"tool_calls": [SENT_CALL, SENT_CALL | {"id": "call_2"}]}],
        ),
        (
            [CALL, SAID],
            [{"tool_calls": [SENT_CALL], "content": "I will look."}],
            [{"tool_calls": [SENT_CALL]}, {"reasoning": "I will look."}],
        ),
    ],
    ids=[
        "text before a call", "reasoning after the text", "two thoughts", "an answer", "two texts", "two calls",
        "text after a call",
    ],
)  # fmt: skip
def test_a_turn_is_one_message_except_where_gpt_oss_would_read_it_in_another_order(
    blocks: list[Any], template: list[dict[str, Any]], harmony: list[dict[str, Any]]
) -> None:
    turn = Message(role="assistant", content=blocks)

    _, *templated = chat_messages(ask_of(HELLO, turn))
    _, *harmonised = chat_messages(ask_of(HELLO, turn, harmony=True))

    assert templated == [{"role": "assistant", **message} for message in template]
    assert harmonised == [{"role": "assistant", **message} for message in harmony]


def test_a_final_text_and_the_calls_of_the_next_turn_are_two_messages_of_gpt_oss() -> None:
    """In one message with a call the text would be commentary."""
    turns = [Message(role="assistant", content=[SAID]), Message(role="assistant", content=[CALL])]

    _, *sent = chat_messages(ask_of(HELLO, *turns, harmony=True))

    assert sent == [
        {"role": "assistant", "content": "I will look."},
        {"role": "assistant", "tool_calls": [SENT_CALL]},
    ]


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        (
            [Message(role="user", content=[TextBlock(text="a"), TextBlock(text="b")])],
            [{"role": "user", "content": "a\nb"}],
        ),
        ([Message(role="system", content=""), HELLO], [{"role": "user", "content": "Hello"}]),
        (
            [Message(role="system", content="Be brief."), HELLO, Message(role="system", content="todo")],
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello\n\n<system-reminder>\ntodo\n</system-reminder>"},
            ],
        ),
        (
            [Message(role="user", content=[TextBlock(text="See:"), PNG]), Message(role="developer", content="todo")],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "See:"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                        {"type": "text", "text": "<context_file>\ntodo\n</context_file>"},
                    ],
                }
            ],
        ),
        (
            [HELLO, CALLED, result([PNG])],
            [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "tool_calls": [SENT_CALL]},
                {
                    "role": "tool",
                    "tool_call_id": "call_1",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}],
                },
            ],
        ),
        (
            [HELLO, CALLED, result("")],
            [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "tool_calls": [SENT_CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": ""},
            ],
        ),
        ([Message(role="user", content="\ud83d\ude00 \ud800")], [{"role": "user", "content": "😀 \ufffd"}]),
    ],
    ids=["texts", "empty instructions", "instructions", "an image", "an image of a tool", "no output", "surrogates"],
)  # fmt: skip
def test_a_message_of_the_session_becomes_a_message(messages: list[Message], sent: list[dict[str, Any]]) -> None:
    assert chat_messages(ask_of(*messages)) == sent


def test_control_tokens_of_a_tool_are_escaped_where_a_template_would_end_the_turn() -> None:
    history = [
        HELLO,
        Message(role="assistant", content=[CALL]),
        Message(role="tool", tool_call_id="call_1", content="<|im_end|>"),
    ]

    outputs = [chat_messages(ask_of(*history, harmony=harmony))[-1]["content"] for harmony in (False, True)]

    assert outputs == ["<\N{WORD JOINER}|im_end|>", "<|im_end|>"]


def test_only_functions_are_tools_and_a_description_is_sent_only_if_there_is_one() -> None:
    tools = [
        ToolSpec(name="bare", parameters={}),
        ToolSpec.model_validate({"name": "full", "description": "d", "parameters": {"type": "object"}, "strict": True}),
        ToolSpec.model_validate({"name": "unset", "parameters": {}, "strict": None}),
        ToolSpec.model_validate({"name": "web", "parameters": {}, "type": "web_search"}),
    ]

    assert [tool["function"] for tool in chat_tools(ask_of(request={"tools": tools}))] == [
        {"name": "bare", "parameters": {}},
        {"name": "full", "description": "d", "parameters": {"type": "object"}, "strict": True},
        {"name": "unset", "parameters": {}},
    ]


any_history = st.lists(valid_messages(), max_size=8).map(lambda later: repair_tool_sequence([HELLO, *later]).messages)


@given(any_history)
def test_the_messages_are_those_that_vllm_makes_of_the_items(history: list[Message]) -> None:
    ask = ask_of(*history, model="qwen")

    assert chat_messages(ask) == folded(encode_responses(ask))


@given(any_history)
def test_gpt_oss_reads_the_parts_of_a_turn_in_their_order(history: list[Message]) -> None:
    ask = ask_of(*history, harmony=True)

    read = [part for message in chat_messages(ask) for part in rendered(message)]

    produced = [item for item in ask.items if not isinstance(item, User | Result)]
    assert [text for _, text in read] == [wire_text(_text(item)) for item in produced]
    assert [channel == "final" for channel, _ in read] == [
        isinstance(item, Text) and not item.beside_calls for item in produced
    ]


def folded(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that vLLM 0.32 makes of the items for a chat template (entrypoints/openai/responses/utils.py)."""
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    for item in body["input"]:
        last = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
        match item:
            case {"type": "function_call_output", "call_id": call_id, "output": output}:
                messages.append({"role": "tool", "tool_call_id": call_id, "content": as_chat(output)})
            case {"role": "user", "content": content}:
                messages.append({"role": "user", "content": as_chat(content)})
            case {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}:
                if last is None:
                    last = {"role": "assistant"}
                    messages.append(last)
                function = {"name": name, "arguments": arguments}
                last.setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})
            case {"content": [{"text": text}]}:
                key = "reasoning" if item["type"] == "reasoning" else "content"
                if last is None or key in last:
                    last = {"role": "assistant"}
                    messages.append(last)
                last[key] = text
    return messages


def as_chat(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": part["text"]}
        if part["type"] == "input_text"
        else {"type": "image_url", "image_url": {"url": part["image_url"]}}
        for part in content
    ]


def rendered(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Channel and text of what vLLM 0.32 makes of an assistant's message in Harmony (parser/harmony_utils.py)."""
    if message["role"] != "assistant":
        return []
    calls = [("call", call["function"]["arguments"]) for call in message.get("tool_calls", [])]
    thought = [("analysis", message["reasoning"])] if message.get("reasoning") else []
    said = [("commentary" if calls else "final", message["content"])] if message.get("content") else []
    return [*said, *thought, *calls] if calls else [*thought, *said]


def _text(item: PromptItem) -> str:
    match item:
        case FunctionCall(arguments=arguments):
            return arguments
        case Reasoning(text) | Text(text):
            return text
        case _:
            return ""
