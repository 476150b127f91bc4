"""The spelling of each input item, in the shapes that both of vLLM's paths take (Harmony and chat templates).

Seen on vLLM 0.32: a second content part of a replayed item is silently dropped, a null id is refused, a reasoning item
needs a summary, and a tool's output must be a string for gpt-oss.
"""

import json
import re
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

T = TypeVar("T")

CONTROL_TOKEN = re.compile(r"<\|(?=\w+\|>)")
"""Where a special token of a chat template begins; Harmony encodes such text as text."""


class OutputTextPart(TypedDict):
    type: Literal["output_text"]
    text: str
    annotations: list[object]


class ReasoningTextPart(TypedDict):
    type: Literal["reasoning_text"]
    text: str


class InputTextPart(TypedDict):
    type: Literal["input_text"]
    text: str


class InputImagePart(TypedDict):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto"]


InputPart = InputTextPart | InputImagePart


class UserItem(TypedDict):
    type: Literal["message"]
    role: Literal["user"]
    content: str | list[InputPart]


class AssistantItem(TypedDict):
    type: Literal["message"]
    role: Literal["assistant"]
    id: str
    status: Literal["completed", "incomplete"]
    content: list[OutputTextPart]


class ReasoningItem(TypedDict):
    type: Literal["reasoning"]
    id: str
    summary: list[object]
    content: list[ReasoningTextPart]


class FunctionCallItem(TypedDict):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionCallOutputItem(TypedDict):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputPart]


InputItem = UserItem | AssistantItem | ReasoningItem | FunctionCallItem | FunctionCallOutputItem


class FunctionTool(TypedDict):
    type: Literal["function"]
    name: str
    description: NotRequired[str]
    parameters: dict[str, object]


def user(content: str | list[InputPart]) -> UserItem:
    return {"type": "message", "role": "user", "content": content}


def said(text: str, position: int, *, whole: bool = True) -> AssistantItem:
    """Text of the assistant. Its id comes from its place in the input, so that the same history is the same bytes."""
    return {
        "type": "message",
        "role": "assistant",
        "id": f"msg_{position}",
        "status": "completed" if whole else "incomplete",
        "content": [{"type": "output_text", "text": wire_text(text), "annotations": []}],
    }


def thought(text: str, position: int) -> ReasoningItem:
    return {
        "type": "reasoning",
        "id": f"rs_{position}",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": wire_text(text)}],
    }


def called(call_id: str, name: str, arguments: str) -> FunctionCallItem:
    return {
        "type": "function_call",
        "call_id": wire_text(call_id),
        "name": wire_text(name),
        "arguments": wire_text(arguments),
    }


def answered(call_id: str, output: str | list[InputPart]) -> FunctionCallOutputItem:
    return {"type": "function_call_output", "call_id": wire_text(call_id), "output": output}


def text_part(text: str) -> InputTextPart:
    return {"type": "input_text", "text": wire_text(text)}


def image_part(url: str) -> InputImagePart:
    return {"type": "input_image", "image_url": wire_text(url), "detail": "auto"}


def output_text(output: object) -> str:
    """A tool's output as a model reads it: text as it is, the rest as JSON, or as Python says it where JSON cannot."""
    match output:
        case str():
            return output
        case None:
            return ""
    try:
        return json.dumps(output, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(output)


def defused(text: str) -> str:
    """A tool's text with `<|im_end|>` and its kind made plain: chat templates would let it end the tool's turn."""
    return CONTROL_TOKEN.sub("<\N{WORD JOINER}|", text)


def wire_value(value: T) -> T:
    """The same value with every text in it, keys included, as `wire_text` makes it."""
    match value:
        case str():
            made: Any = wire_text(value)
        case dict():
            made = {wire_value(key): wire_value(inner) for key, inner in value.items()}
        case list():
            made = [wire_value(inner) for inner in value]
        case _:
            made = value
    kept: T = made
    return kept


def wire_text(text: str) -> str:
    """The text with surrogates paired or replaced: vLLM answers a lone one with 400."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
