"""Session histories of any length, and their format for each kind of client."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, assert_never

from amplifier_core.message_models import Message, TextBlock, ThinkingBlock, ToolCallBlock

TOOL: Final = "get_weather"

Json = dict[str, Any]


@dataclass(frozen=True)
class Text:
    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Call:
    """The assistant's reasoning and call."""

    id: str
    thinking: str
    input: Json

    @property
    def arguments(self) -> str:
        return json.dumps(self.input)


@dataclass(frozen=True)
class Result:
    call_id: str
    text: str


Step = Text | Call | Result

QUESTION: Final = (Text("user", "Count from 1 to 100."),)


def conversation(messages: int, characters: int = 0) -> list[Step]:
    """A session that thinks, calls a tool and answers, over and over, up to the user's next question.

    `messages`: 1, or a multiple of 4. `characters`: the minimum length of each message's text.
    """
    opening: list[Step] = [
        Text("system", "You are a careful assistant. " * 20),
        Text("user", "Good morning."),
        Text("assistant", "Good morning! How can I help?"),
    ]
    steps = [*opening, *(_step(n) for n in range(messages - len(opening)))] if messages > 1 else [_step(0)]
    return [_pad(step, characters) for step in steps]


def amplifier_messages(steps: Sequence[Step]) -> list[Message]:
    return [_amplifier_message(step) for step in steps]


def response_items(steps: Sequence[Step]) -> list[Json]:
    """The input of /v1/responses."""
    return [item for n, step in enumerate(steps) for item in _response_items(step, n)]


def chat_messages(steps: Sequence[Step]) -> list[Json]:
    """The messages of /v1/chat/completions."""
    return [_chat_message(step) for step in steps]


def _step(n: int) -> Step:
    match n % 4:
        case 0:
            return Text("user", f"Question {n}: what is the weather in Paris, and what should I wear?")
        case 1:
            return Call(f"call_{n}", "I should look it up. " * 10, {"city": "Paris", "day": n})
        case 2:
            return Result(f"call_{n - 1}", "sunny, 21 C, light wind. " * 10)
        case _:
            return Text("assistant", "It is sunny: no coat is needed. " * 10)


def _pad(step: Step, characters: int) -> Step:
    match step:
        case Text(role=role, text=text):
            return Text(role, _repeat(text, characters))
        case Call(id=call_id, thinking=thinking, input=arguments):
            return Call(call_id, _repeat(thinking, characters), arguments)
        case Result(call_id=call_id, text=text):
            return Result(call_id, _repeat(text, characters))
        case _:
            assert_never(step)


def _repeat(text: str, characters: int) -> str:
    return text * max(1, -(-characters // len(text)))


def _amplifier_message(step: Step) -> Message:
    match step:
        case Text(role="assistant", text=text):
            return Message(role="assistant", content=[TextBlock(text=text)])
        case Text(role=role, text=text):
            return Message(role=role, content=text)
        case Call(id=call_id, thinking=thinking, input=arguments):
            call = ToolCallBlock(id=call_id, name=TOOL, input=arguments)
            return Message(role="assistant", content=[ThinkingBlock(thinking=thinking), call])
        case Result(call_id=call_id, text=text):
            return Message(role="tool", tool_call_id=call_id, content=text)
        case _:
            assert_never(step)


def _response_items(step: Step, n: int) -> Iterator[Json]:
    match step:
        case Text(role="assistant", text=text):
            content = [{"type": "output_text", "text": text, "annotations": []}]
            item = {"type": "message", "id": f"msg_{n}", "status": "completed", "role": "assistant"}
            yield item | {"content": content}
        case Text(role=role, text=text):
            yield {"type": "message", "role": role, "content": text}
        case Call(id=call_id, thinking=thinking, arguments=arguments):
            content = [{"type": "reasoning_text", "text": thinking}]
            yield {"type": "reasoning", "id": f"rs_{n}", "summary": [], "content": content}
            yield {"type": "function_call", "call_id": call_id, "name": TOOL, "arguments": arguments}
        case Result(call_id=call_id, text=text):
            yield {"type": "function_call_output", "call_id": call_id, "output": text}
        case _:
            assert_never(step)


def _chat_message(step: Step) -> Json:
    match step:
        case Text(role=role, text=text):
            return {"role": role, "content": text}
        case Call(id=call_id, thinking=thinking, arguments=arguments):
            call = {"type": "function", "id": call_id, "function": {"name": TOOL, "arguments": arguments}}
            return {"role": "assistant", "content": None, "reasoning": thinking, "tool_calls": [call]}
        case Result(call_id=call_id, text=text):
            return {"role": "tool", "tool_call_id": call_id, "content": text}
        case _:
            assert_never(step)
