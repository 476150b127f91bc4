"""Encode messages, tools and options as the parameters of `responses.create`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import (
    ChatRequest,
    Degradation,
    Message,
    ResponseFormatJson,
    ResponseFormatJsonSchema,
    ToolSpec,
)

from .._constants import PROVIDER
from .._options import CallOptions
from .history import History, all_text
from .input_items import wire_value

Params = dict[str, Any]
"""Keyword arguments of `AsyncOpenAI.responses.create`."""


@dataclass(frozen=True, slots=True)
class Encoded:
    params: Params
    degradations: list[Degradation]


def encode_request(messages: Sequence[Message], request: ChatRequest, options: CallOptions) -> Encoded:
    """The parameters of a call with this history. What cannot be sent raises `InvalidRequestError`."""
    leading = next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))
    history = History(options)
    for message in messages[leading:]:
        history.add(message)
    if not history.items:
        raise InvalidRequestError(
            "the request has nothing to answer: no message but system messages", provider=PROVIDER
        )
    params: Params = {"model": options.model, "input": history.items, "store": options.store, "stream": options.stream}
    if leading:
        params["instructions"] = "\n\n".join(all_text(message) for message in messages[:leading])
    params |= _settings(options) | _tools(request.tools, options) | _text_format(request)
    if body := _extra_body(options, params):
        params["extra_body"] = body
    params = {key: value if key == "input" else wire_value(value) for key, value in params.items()}
    return Encoded(params, [*options.degradations, *history.degradations])


def _settings(options: CallOptions) -> Params:
    reasoning = {"effort": options.reasoning_effort, "summary": options.reasoning_summary}
    settings = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_output_tokens": options.max_output_tokens,
        "truncation": options.truncation,
        "reasoning": {key: value for key, value in reasoning.items() if value is not None} or None,
        "extra_headers": dict(options.extra_headers) or None,
    }
    return {key: value for key, value in settings.items() if value is not None}


def _extra_body(options: CallOptions, params: Params) -> dict[str, object]:
    """What vLLM takes and the SDK does not know; what the call itself settled stands above it."""
    stop = {} if options.stop is None else {"stop": options.stop}
    return {key: value for key, value in options.extra_body.items() if key not in params} | stop


def _tools(tools: Sequence[ToolSpec] | None, options: CallOptions) -> Params:
    # Both server paths ignore "none" while tools are offered, and come back with a call or its markup.
    choice = None if options.tool_choice is None else _tool_choice(options.tool_choice)
    if not tools or choice == "none":
        return {}
    params: Params = {"tools": [_tool(tool) for tool in tools]}
    if choice is not None:
        params["tool_choice"] = choice
    if options.parallel_tool_calls is not None:
        params["parallel_tool_calls"] = options.parallel_tool_calls
    return params


def _tool(tool: ToolSpec) -> dict[str, object]:
    extra = tool.model_extra or {}
    if extra.get("type", "function") != "function":
        return dict(extra)
    function: dict[str, object] = {"type": "function", "name": tool.name, "parameters": tool.parameters}
    return function if tool.description is None else function | {"description": tool.description}


def _tool_choice(choice: str | dict[str, Any]) -> str | dict[str, Any]:
    match choice:
        case "auto" | "required" | "none":
            return choice
        case "any":
            return "required"
        case str(name):
            return {"type": "function", "name": name}
        case {"type": "function", "function": {"name": str(name)}} | {"type": "tool" | "function", "name": str(name)}:
            return {"type": "function", "name": name}
        case {"type": "auto" | "required" | "none" | "any" as kind}:
            return "required" if kind == "any" else kind
        case _:
            return choice


def _text_format(request: ChatRequest) -> Params:
    match request.response_format:
        case ResponseFormatJson():
            return {"text": {"format": {"type": "json_object"}}}
        case ResponseFormatJsonSchema(json_schema=given, strict=strict):
            schema = given["schema"] if isinstance(given.get("schema"), dict) else given
            name = given.get("name") or given.get("title") or "response"
            described: dict[str, object] = {"type": "json_schema", "name": name, "schema": schema}
            return {"text": {"format": described if strict is None else described | {"strict": strict}}}
        case _:
            return {}
