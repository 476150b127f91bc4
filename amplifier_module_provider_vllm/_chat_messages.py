"""Convert an Ask to the messages, tools and response format of a chat.

vLLM converts the items of /v1/responses to the same messages (entrypoints/openai/responses/utils.py), so that a session
finds its prompts in the prefix cache on every endpoint. Only gpt-oss differs: beside calls, its text stays commentary.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, assert_never

from amplifier_core.message_models import ToolSpec

from ._ask import Ask
from ._family import Family
from ._prompt import Format, Image, Part, Reminder, Result, ToolText, User, join_text
from ._strict_json import wire_text, wire_value
from ._turn import FunctionCall, Reasoning, Text

Message = dict[str, Any]


def chat_messages(ask: Ask) -> list[Message]:
    """The conversation. Raises `InvalidRequestError` for an image whose source is neither base64 nor a URL."""
    family = ask.options.family
    messages: list[Message] = []
    if ask.prompt.instructions:  # on /v1/responses, vLLM ignores empty ones
        messages.append({"role": "system", "content": wire_text(ask.prompt.instructions)})
    for item, following in pairwise((*ask.items, None)):
        match item:
            case User(parts):
                messages.append({"role": "user", "content": _content(parts, family)})
            case Result(call_id, parts):
                content = _content(parts, family)
                messages.append({"role": "tool", "tool_call_id": wire_text(call_id), "content": content})
            case Reasoning() | Text() | FunctionCall():
                part = _assistant_part(item, isinstance(following, FunctionCall), family)
                _add_to_turn(messages, part, family)
            case None:
                pass
            case _:
                assert_never(item)
    return messages


def chat_tools(ask: Ask) -> list[Message]:
    """The functions that the model may call."""
    return [{"type": "function", "function": _function(tool)} for tool in ask.functions]


def response_format(format_: Format | None) -> Message | None:
    """The format of the reply, the same for chat and text completions; None for free text."""
    match format_:
        case None:
            return None
        case Format(schema=None):
            return {"type": "json_object"}
        case Format(name=name, schema=schema, strict=strict):
            spec: Message = {"name": name, "schema": schema}
            spec = spec if strict is None else spec | {"strict": strict}
            return wire_value({"type": "json_schema", "json_schema": spec})


def _assistant_part(item: Reasoning | Text | FunctionCall, before_call: bool, family: Family) -> Message:
    """The item as fields of a message; `before_call`: a call comes next."""
    match item:
        case FunctionCall(call_id=call_id, name=name, arguments=arguments):
            function = {"name": wire_text(name), "arguments": wire_text(arguments)}
            return {"tool_calls": [{"id": wire_text(call_id), "type": "function", "function": function}]}
        case Reasoning(text):
            return {"reasoning": wire_text(text)}
        case Text(text, beside_calls=True) if family.thinks_beside_calls:
            # As commentary it needs the call in its own message: alone it would be the turn's final text.
            return {"content": wire_text(text), "tool_calls": []} if before_call else {"reasoning": wire_text(text)}
        case Text(text, beside_calls=True):
            return {"content": wire_text(family.text_beside_calls(text))}
        case Text(text):
            return {"content": wire_text(text)}
        case _:
            assert_never(item)


def _add_to_turn(messages: list[Message], part: Message, family: Family) -> None:
    """Add the part to the last message if that is the assistant's and has room for it, else in a message of its own."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or not (_follows if family.rendering == "harmony" else _fits)(last, part):
        messages.append({"role": "assistant", **part})
    elif "tool_calls" in part:
        last.setdefault("tool_calls", []).extend(part["tool_calls"])
    else:
        last.update(part)


def _fits(last: Message, part: Message) -> bool:
    return "tool_calls" in part or part.keys().isdisjoint(last)


def _follows(last: Message, part: Message) -> bool:
    """Whether vLLM renders the part after the rest of the message: in Harmony, order has meaning.

    It renders reasoning before text, but after the text of a message with calls, and calls always last.
    """
    match part:
        case {"tool_calls": [_]}:
            return "tool_calls" in last or "content" not in last
        case {"content": _, **rest}:
            return not rest and last.keys() == {"role", "reasoning"}
        case _:
            return False


def _content(parts: Sequence[Part], family: Family) -> str | list[Message]:
    """Parts without images as a string: vLLM joins text parts with a newline, or for gpt-oss with nothing."""
    match parts:
        case [str(text)]:  # nearly always
            return wire_text(text)
        case _ if any(isinstance(part, Image) for part in parts):
            return [_part(part, family) for part in parts]
        case _:
            return wire_text(join_text(parts, family.tool_text))


def _part(part: Part, family: Family) -> Message:
    match part:
        case Image():
            return {"type": "image_url", "image_url": {"url": wire_text(part.url)}}
        case ToolText(text):
            return {"type": "text", "text": wire_text(family.tool_text(text))}
        case Reminder(text) | str(text):
            return {"type": "text", "text": wire_text(text)}
        case _:
            assert_never(part)


def _function(tool: ToolSpec) -> Message:
    described = {} if tool.description is None else {"description": wire_text(tool.description)}
    extra = tool.model_extra or {}
    strict = {"strict": extra["strict"]} if extra.get("strict") is not None else {}
    return {"name": wire_text(tool.name), **described, "parameters": wire_value(tool.parameters), **strict}
