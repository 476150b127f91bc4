"""Shape a request for the endpoints with which vLLM counts a prompt, and read what they answer.

Seen on vLLM 0.32: `/tokenize` renders the very prompt of `/v1/responses`, but not for gpt-oss, which it gives a chat
template instead of Harmony. `/v1/messages/count_tokens` uses Harmony where the model does; what it changes, in tools'
schemas without a type and in calls' arguments that are not ASCII, is a few tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from ._responses.input_items import InputItem, InputPart
from ._strict_json import read_json

Body = dict[str, Any]

TOKENIZE: Final = "/tokenize"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"

ANTHROPIC_EFFORTS: Final = {"low", "medium", "high", "xhigh", "max"}


def count_bodies(params: Mapping[str, Any], *, harmony: bool) -> list[tuple[str, Body]]:
    """Path and body of each question that counts this request, the exacter one first."""
    messages = COUNT_TOKENS, _anthropic_body(params, harmony=harmony)
    return [messages] if harmony else [(TOKENIZE, _chat_body(params)), messages]


def is_ascii(params: Mapping[str, Any]) -> bool:
    """Whether `/v1/messages/count_tokens` counts the calls as they are: it escapes what is not ASCII in them."""
    return all(item["arguments"].isascii() for item in params["input"] if item["type"] == "function_call")


def read_count(answer: object) -> int | None:
    match answer:
        case {"count": int(count)} | {"input_tokens": int(count)}:
            return count
        case _:
            return None


def _chat_body(params: Mapping[str, Any]) -> Body:
    """The chat messages that vLLM makes of the input (entrypoints/openai/responses/utils.py)."""
    messages: list[Body] = []
    if "instructions" in params:
        messages.append({"role": "system", "content": params["instructions"]})
    for item in params["input"]:
        _add_to_chat(messages, item)
    tools = [{"type": "function", "function": _without_type(tool)} for tool in _functions(params)]
    body = {"model": params["model"], "messages": messages, "chat_template_kwargs": _template_kwargs(params)}
    return body | ({"tools": tools} if tools else {})


def _add_to_chat(messages: list[Body], item: InputItem) -> None:
    """Reasoning, text and calls of the assistant that follow each other become one message."""
    if item["type"] == "function_call_output":
        content = _chat_content(item["output"])
        messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
        return
    if item["type"] == "message" and item["role"] == "user":
        messages.append({"role": "user", "content": _chat_content(item["content"])})
        return
    last = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
    if item["type"] == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        if last is None:
            messages.append({"role": "assistant", "tool_calls": [call]})
        else:
            last.setdefault("tool_calls", []).append(call)
        return
    key = "reasoning" if item["type"] == "reasoning" else "content"
    if last is None or key in last:
        last = {"role": "assistant"}
        messages.append(last)
    last[key] = item["content"][0]["text"]


def _chat_content(content: str | list[InputPart]) -> str | list[Body]:
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": part["text"]}
        if part["type"] == "input_text"
        else {"type": "image_url", "image_url": {"url": part["image_url"]}}
        for part in content
    ]


def _template_kwargs(params: Mapping[str, Any]) -> Body:
    """What vLLM tells the template of the effort (openai/responses/protocol.py), under what the operator set."""
    effort = params.get("reasoning", {}).get("effort")
    told = {} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    return told | _operators_kwargs(params)


def _anthropic_body(params: Mapping[str, Any], *, harmony: bool) -> Body:
    """The request as an Anthropic one. Harmony has a message for each item, chat templates one for each turn."""
    blocks = [_anthropic_block(item) for item in params["input"]]
    keys = [(role, place if harmony or role == "user" else 0) for place, (role, _) in enumerate(blocks)]
    keyed = zip(keys, (block for _, block in blocks), strict=True)
    groups = groupby(keyed, lambda pair: pair[0])
    body: Body = {
        "model": params["model"],
        "messages": [{"role": key[0], "content": [block for _, block in group]} for key, group in groups],
        "chat_template_kwargs": _operators_kwargs(params),
    }
    tools = [_anthropic_tool(tool) for tool in _functions(params)]
    system = {"system": params["instructions"]} if "instructions" in params else {}
    return body | system | _anthropic_effort(params) | ({"tools": tools} if tools else {})


def _anthropic_block(item: InputItem) -> tuple[str, Body]:
    """The role and the block of an item."""
    if item["type"] == "reasoning":
        return "assistant", {"type": "thinking", "thinking": item["content"][0]["text"]}
    if item["type"] == "function_call":
        arguments = {"id": item["call_id"], "name": item["name"], "input": _as_object(item["arguments"])}
        return "assistant", {"type": "tool_use", **arguments}
    if item["type"] == "function_call_output":
        return "user", {"type": "tool_result", "tool_use_id": item["call_id"], "content": _text(item["output"])}
    if item["role"] == "assistant":
        return "assistant", {"type": "text", "text": item["content"][0]["text"]}
    return "user", {"type": "text", "text": _text(item["content"])}


def _as_object(arguments: str) -> object:
    """vLLM itself takes malformed arguments for none."""
    try:
        given = read_json(arguments)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def _text(content: str | list[InputPart]) -> str:
    """Images are not counted: what a model makes of one is not in its text."""
    return content if isinstance(content, str) else "\n".join(_texts(content))


def _texts(content: Sequence[InputPart]) -> Iterator[str]:
    return (part["text"] for part in content if part["type"] == "input_text")


def _anthropic_tool(tool: Mapping[str, Any]) -> Body:
    described = {"description": tool["description"]} if "description" in tool else {}
    return {"name": tool["name"], "input_schema": tool["parameters"], **described}


def _anthropic_effort(params: Mapping[str, Any]) -> Body:
    effort = params.get("reasoning", {}).get("effort")
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {"output_config": {"effort": effort}} if effort in ANTHROPIC_EFFORTS else {}


def _functions(params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [tool for tool in params.get("tools", ()) if tool["type"] == "function"]


def _operators_kwargs(params: Mapping[str, Any]) -> Body:
    return dict(params.get("extra_body", {}).get("chat_template_kwargs") or {})


def _without_type(tool: Mapping[str, Any]) -> Body:
    return {key: value for key, value in tool.items() if key != "type"}
