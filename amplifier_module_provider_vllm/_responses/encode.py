"""Encode an Ask as the JSON body of /v1/responses, in the shapes that both of vLLM's paths accept.

The paths are Harmony and chat templates. Seen on vLLM 0.32: a second content part of a replayed item is silently
dropped, a null id is refused, a reasoning item needs a summary, and a tool's output must be a string for gpt-oss.
"""

from collections.abc import Mapping, Sequence
from typing import Final, assert_never

from amplifier_core.message_models import ToolSpec

from .._ask import Ask
from .._endpoint import Body
from .._family import Family
from .._options import CallOptions, NamedTool, ToolChoice, first_set
from .._prompt import Format, Image, Part, PromptItem, Reminder, Result, ToolText, User, is_function, join_text
from .._strict_json import Json, wire_text, wire_value
from .._turn import FunctionCall, Reasoning, Text

LOGPROBS: Final = "message.output_text.logprobs"

NAMED_TOOLS: Final = {"custom", "namespace"}
"""Types of tools, beside functions, that the model calls by their name."""


def encode(ask: Ask) -> Body:
    """The JSON body. Raises `InvalidRequestError` for an image whose source is neither base64 nor a URL."""
    options, prompt = ask.options, ask.prompt
    model = wire_text(options.model)
    body: Body = {"model": model, "input": encode_items(ask), "store": options.store, "stream": options.stream}
    if ask.stored is not None:
        body["previous_response_id"] = ask.stored.response_id
    rest: Body = {"instructions": prompt.instructions, **_settings(ask), **_tools(ask), "text": _text(prompt.format)}
    body |= {key: wire_value(value) for key, value in rest.items() if value is not None}
    return {**wire_value(dict(options.extra_body)), **body, **_stop(options), **_logprobs(options)}


def encode_items(ask: Ask) -> list[Body]:
    """The input items, except those that the server has stored.

    Ids come from an item's position in the conversation, so that the same history gives the same bytes.
    """
    start = 0 if ask.stored is None else ask.stored.items
    family, prefix = ask.options.family, f"{ask.item_ids}_" if ask.item_ids else ""
    items = [_item(item, f"{prefix}{place}", family) for place, item in enumerate(ask.items[start:], start)]
    if ask.reply:
        # vLLM continues a last message with this status, or with "incomplete", which agentic-api 0.9 refuses.
        items[-1] |= {"status": "in_progress"}
    return items


def _item(item: PromptItem, place: str, family: Family) -> Body:
    match item:
        case FunctionCall():
            return _call(item)
        case Result(call_id, parts):
            output = _content(parts, family)
            return {"type": "function_call_output", "call_id": wire_text(call_id), "output": output}
        case Reasoning(text):
            return _reasoning(text, place)
        case Text(text, beside_calls=True) if family.thinks_beside_calls:
            return _reasoning(text, place)
        case Text(text, beside_calls=True):
            return _message(family.text_beside_calls(text), place)
        case Text(text):
            return _message(text, place)
        case User(parts):
            return {"type": "message", "role": "user", "content": _content(parts, family)}
        case _:
            assert_never(item)


def _message(text: str, place: str) -> Body:
    return {
        "type": "message",
        "role": "assistant",
        "id": f"msg_{place}",
        "status": "completed",
        "content": [{"type": "output_text", "text": wire_text(text), "annotations": []}],
    }


def _reasoning(text: str, place: str) -> Body:
    content = [{"type": "reasoning_text", "text": wire_text(text)}]
    return {"type": "reasoning", "id": f"rs_{place}", "summary": [], "content": content}


def _call(call: FunctionCall) -> Body:
    return {
        "type": "function_call",
        "call_id": wire_text(call.call_id),
        "name": wire_text(call.name),
        "arguments": wire_text(call.arguments),
    }


def _content(parts: Sequence[Part], family: Family) -> str | list[Body]:
    """Parts without images as a string, which both paths accept; vLLM itself joins text parts with a newline."""
    match parts:
        case [str(text)]:  # nearly always
            return wire_text(text)
        case [ToolText(text)]:
            return wire_text(family.tool_text(text))
        case _ if any(isinstance(part, Image) for part in parts):
            return [_part(part, family) for part in parts]
        case _:
            return wire_text(join_text(parts, family.tool_text))


def _part(part: Part, family: Family) -> Body:
    match part:
        case Image():
            return {"type": "input_image", "image_url": wire_text(part.url), "detail": "auto"}
        case ToolText(text):
            return {"type": "input_text", "text": wire_text(family.tool_text(text))}
        case Reminder(text) | str(text):
            return {"type": "input_text", "text": wire_text(text)}
        case _:
            assert_never(part)


def _settings(ask: Ask) -> Mapping[str, object]:
    options = ask.options
    # Without effort "none" the rest of a continued text comes back as reasoning.
    effort = "none" if ask.reply else options.reasoning_effort
    reasoning = {"effort": effort, "summary": options.reasoning_summary}
    return {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_output_tokens": options.max_output_tokens,
        "truncation": options.truncation,
        "reasoning": {key: value for key, value in reasoning.items() if value is not None} or None,
    }


def _stop(options: CallOptions) -> Body:
    """vLLM accepts stop strings here; OpenAI's own endpoint does not."""
    return {} if options.stop is None else {"stop": wire_value(options.stop)}


def _logprobs(options: CallOptions) -> Body:
    if options.logprobs is None:
        return {}
    stated: Json = options.extra_body.get("include")
    others = [one for one in stated if one != LOGPROBS] if isinstance(stated, list) else []
    return {"include": [*others, LOGPROBS], "top_logprobs": options.logprobs}


def _tools(ask: Ask) -> Mapping[str, object]:
    # Both of vLLM's paths ignore the choice "none" if tools are sent, and reply with a call or its markup.
    if not ask.may_call_tools:
        return {}
    options = ask.options
    parallel = first_set(options.parallel_tool_calls, options.extra_body.get("parallel_tool_calls"))
    return {
        "tools": [*map(_tool, ask.prompt.tools), *options.hosted_tools],
        "tool_choice": None if options.tool_choice is None else _tool_choice(options.tool_choice),
        # vLLM's own default; agentic-api's is false, and vLLM then discards all calls but the first.
        "parallel_tool_calls": first_set(parallel, True),
    }


def _tool(tool: ToolSpec) -> Body:
    extra = tool.model_extra or {}
    described = {} if tool.description is None else {"description": tool.description}
    if is_function(tool):
        strict = {"strict": extra["strict"]} if "strict" in extra else {}
        return {"type": "function", "name": tool.name, "parameters": tool.parameters, **described, **strict}
    # Hosted tools have no name of their own: a ToolSpec's is only Amplifier's.
    return {"name": tool.name, **described, **extra} if extra["type"] in NAMED_TOOLS else dict(extra)


def _tool_choice(choice: ToolChoice) -> object:
    return {"type": "function", "name": choice.name} if isinstance(choice, NamedTool) else choice


def _text(format_: Format | None) -> Body | None:
    match format_:
        case None:
            return None
        case Format(schema=None):
            return {"format": {"type": "json_object"}}
        case Format(name=name, schema=schema, strict=strict):
            spec: Body = {"type": "json_schema", "name": name, "schema": schema}
            return {"format": spec if strict is None else spec | {"strict": strict}}
