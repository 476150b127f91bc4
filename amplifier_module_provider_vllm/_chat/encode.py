"""Encode an Ask as the JSON body of /v1/chat/completions, in the shapes that both of vLLM's paths accept.

Seen on vLLM 0.32: an empty list of tools is refused; with a null `tool_choice` an unstreamed call is lost; an effort
inside `reasoning` is ignored.
"""

from collections.abc import Mapping

from .._ask import Ask
from .._chat_messages import chat_messages, chat_tools, response_format
from .._endpoint import Body
from .._options import CallOptions, NamedTool, ToolChoice, first_set
from .._strict_json import Json, wire_text, wire_value


def encode(ask: Ask) -> Body:
    """The JSON body. Raises `InvalidRequestError` for an image whose source is neither base64 nor a URL."""
    options = ask.options
    messages = [_with_older_spelling(message) for message in chat_messages(ask)]
    fields: Body = {
        **_settings(options),
        **_tools(ask),
        **_tokens(ask),
        "response_format": response_format(ask.prompt.format),
    }
    if ask.reply:
        # Without effort "none" the rest of an unstreamed text comes back as reasoning.
        rest = {"continue_final_message": True, "add_generation_prompt": False, "reasoning_effort": "none"}
        fields |= rest
    given = {key: value for key, value in fields.items() if value is not None}
    body: Body = {"model": wire_text(options.model), "messages": messages, "stream": options.stream, **given}
    stream_options = wire_value({"stream_options": options.stream_options}) if options.stream else {}
    extra = _extra_body(options, body)
    return {**extra, **body, **stream_options, **_prompt_ids(ask, extra)}


def _with_older_spelling(message: Body) -> Body:
    """Other servers, and vLLM until 0.11, read `reasoning_content`; where both are read, they are the same text."""
    return {**message, "reasoning_content": message["reasoning"]} if "reasoning" in message else message


def _settings(options: CallOptions) -> Body:
    return {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_completion_tokens": options.max_output_tokens,
        "reasoning_effort": options.reasoning_effort,
        "stop": wire_value(options.stop),
    }


def _tools(ask: Ask) -> Body:
    # vLLM writes a call as text, or loses it, if the choice is "none" and tools are sent.
    tools = chat_tools(ask)
    if not tools:
        return {}
    options = ask.options
    parallel = first_set(options.parallel_tool_calls, options.extra_body.get("parallel_tool_calls"))
    return {
        "tools": tools,
        # Without a parser vLLM refuses "auto", and gives the calls in the text, where they are read later.
        "tool_choice": "none" if _is_free(options) and options.calls_in_text else _tool_choice(options.tool_choice),
        "parallel_tool_calls": first_set(parallel, True),
    }


def _is_free(options: CallOptions) -> bool:
    return options.tool_choice in (None, "auto")


def _tool_choice(choice: ToolChoice | None) -> object:
    match choice:
        case NamedTool(name):
            return {"type": "function", "function": {"name": wire_text(name)}}
        case str() | None:
            return choice
        case _:
            return wire_value(dict(choice))


def _tokens(ask: Ask) -> Body:
    """What the reply tells of its tokens."""
    alternatives = ask.options.asked_logprobs
    ids = {"return_token_ids": True} if ask.wants_tokens or ask.options.token_ids else {}
    return ids if alternatives is None else {**ids, "logprobs": True, "top_logprobs": alternatives}


def _prompt_ids(ask: Ask, extra: Body) -> Body:
    """The prompt's token ids. A server that does not take them has the messages, and its reply tells (vLLM #55771)."""
    if not ask.sends_prompt_ids or ask.tokens is None:
        return {}
    given: Json = extra.get("kv_transfer_params")
    params = given if isinstance(given, Mapping) else {}
    return {"kv_transfer_params": {**params, "prompt_token_ids": [*ask.tokens.ids]}}


def _extra_body(options: CallOptions, body: Mapping[str, object]) -> Body:
    """The operator's further fields; a choice without tools is refused, and a null is what vLLM assumes anyway."""
    dropped = {"stream_options"} if "tools" in body else {"stream_options", "tool_choice", "parallel_tool_calls"}
    extra = {key: value for key, value in options.extra_body.items() if value is not None and key not in dropped}
    return wire_value(extra)
