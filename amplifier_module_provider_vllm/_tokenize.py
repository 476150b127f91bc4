"""Encode a request for vLLM's token-counting endpoints, and decode their answers.

On vLLM 0.32 `/tokenize` renders exactly the prompt of `/v1/responses`, except for gpt-oss, which it renders with a chat
template instead of Harmony. `/v1/messages/count_tokens` uses Harmony if the model does; it is a few tokens off for tool
schemas without a type and for call arguments that are not ASCII.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final, assert_never

from amplifier_core.message_models import ToolSpec

from ._ask import Ask
from ._chat_messages import chat_messages, chat_tools
from ._endpoint import Body
from ._paths import TOKENIZE
from ._prompt import Part, PromptItem, Result, User, join_text
from ._strict_json import Json, read_json, wire_text, wire_value
from ._turn import FunctionCall, Reasoning, Text

COUNT_TOKENS: Final = "/v1/messages/count_tokens"

ANTHROPIC_EFFORTS: Final = {"low", "medium", "high", "xhigh", "max"}


def count_bodies(ask: Ask) -> list[tuple[str, Body]]:
    """Path and body of each counting request, the more exact one first."""
    messages = COUNT_TOKENS, wire_value(_anthropic_body(ask))
    if ask.options.family.rendering == "harmony":
        return [messages]
    return [(TOKENIZE, tokenize_body(ask)), messages]


def is_ascii(ask: Ask) -> bool:
    """Whether `/v1/messages/count_tokens` counts the calls exactly: it escapes non-ASCII arguments."""
    return all(item.arguments.isascii() for item in ask.items if isinstance(item, FunctionCall))


def read_count(answer: object) -> int | None:
    match answer:
        case {"count": int(count)} | {"input_tokens": int(count)}:
            return count
        case _:
            return None


def tokenize_body(ask: Ask) -> Body:
    """The body for `/tokenize`, which also answers with the ids of the prompt."""
    tools = chat_tools(ask)
    kwargs = _template_kwargs(ask)
    body = {"model": ask.options.model, "messages": chat_messages(ask), "chat_template_kwargs": kwargs}
    template: Json = ask.options.extra_body.get("chat_template")
    stated = {"tools": tools or None, "chat_template": template}
    return wire_value(body | {key: value for key, value in stated.items() if value is not None})


def _template_kwargs(ask: Ask) -> Body:
    """Template arguments for the effort as vLLM sets them (openai/responses/protocol.py), below the operator's."""
    effort = ask.options.reasoning_effort
    kwargs = {} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    return kwargs | _configured_kwargs(ask)


def _anthropic_body(ask: Ask) -> Body:
    """The request as Anthropic messages: for Harmony one message per item, for chat templates one per turn."""
    per_item = ask.options.family.rendering == "harmony"
    blocks = [_anthropic_block(item, ask) for item in ask.items]
    keys = [(role, place if per_item or role == "user" else 0) for place, (role, _) in enumerate(blocks)]
    keyed = zip(keys, (block for _, block in blocks), strict=True)
    groups = groupby(keyed, lambda pair: pair[0])
    body: Body = {
        "model": ask.options.model,
        "messages": [{"role": key[0], "content": [block for _, block in group]} for key, group in groups],
        "chat_template_kwargs": _configured_kwargs(ask),
    }
    tools = [_tool_spec(tool) for tool in ask.functions]
    system = {} if ask.prompt.instructions is None else {"system": ask.prompt.instructions}
    return body | system | _anthropic_effort(ask) | ({"tools": tools} if tools else {})


def _anthropic_block(item: PromptItem, ask: Ask) -> tuple[str, Body]:
    """The role and the block of an item. Images are not counted: their tokens are not in the text."""
    match item:
        case Reasoning(text):
            return "assistant", {"type": "thinking", "thinking": text}
        case Text(text, beside_calls=True) if ask.options.family.thinks_beside_calls:
            return "assistant", {"type": "thinking", "thinking": text}
        case Text(text):
            return "assistant", {"type": "text", "text": text}
        case FunctionCall(call_id=call_id, name=name, arguments=arguments):
            return "assistant", {"type": "tool_use", "id": call_id, "name": name, "input": _as_object(arguments)}
        case Result(call_id, parts):
            return "user", {"type": "tool_result", "tool_use_id": call_id, "content": _text(parts, ask)}
        case User(parts):
            return "user", {"type": "text", "text": _text(parts, ask)}
        case _:
            assert_never(item)


def _text(parts: Sequence[Part], ask: Ask) -> str:
    return join_text(parts, ask.options.family.tool_text)


def _as_object(arguments: str) -> object:
    """The arguments as an object; malformed ones are empty, as in vLLM."""
    try:
        decoded = read_json(wire_text(arguments))
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _tool_spec(tool: ToolSpec) -> Body:
    description = {} if tool.description is None else {"description": tool.description}
    return {"name": tool.name, "input_schema": tool.parameters, **description}


def _anthropic_effort(ask: Ask) -> Body:
    effort = ask.options.reasoning_effort
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {"output_config": {"effort": effort}} if effort in ANTHROPIC_EFFORTS else {}


def _configured_kwargs(ask: Ask) -> Body:
    kwargs: Json = ask.options.extra_body.get("chat_template_kwargs")
    return dict(kwargs) if isinstance(kwargs, Mapping) else {}
