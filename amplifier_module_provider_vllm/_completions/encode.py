"""Encode an Ask as the JSON body of /v1/completions: the rendered prompt in token ids, or a raw text.

Seen on vLLM 0.32: without `max_tokens` a reply has 16 tokens; the text lacks control tokens unless they are asked for;
an echoed prompt is left out if token ids are asked for.
"""

from collections.abc import Mapping

from amplifier_core.llm_errors import InvalidRequestError

from .._ask import Ask
from .._chat_messages import response_format
from .._constants import PROVIDER
from .._endpoint import Body
from .._prompt import Prompt, User, join_text
from .._strict_json import Json, wire_text, wire_value


def encode(ask: Ask) -> Body:
    """The JSON body. Raises `InvalidRequestError` for a raw prompt without a user message."""
    options = ask.options
    rest: Mapping[str, Json] = {
        "max_tokens": options.max_output_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "stop": options.stop,
        "logprobs": options.asked_logprobs,
        "response_format": response_format(ask.prompt.format),
        "stream_options": options.stream_options,
        **({"echo": True} if options.echo else {"return_token_ids": True}),
        # A raw prompt's reply is shown as it comes; the markup of any other is parsed.
        "skip_special_tokens": None if options.raw_prompt else False,
    }
    stated = {key: wire_value(value) for key, value in rest.items() if value is not None}
    fixed: Body = {"model": wire_text(options.model), "prompt": _prompt(ask), "stream": options.stream}
    extra = {key: value for key, value in options.extra_body.items() if key != "stream_options"}
    return {**wire_value(extra), **fixed, **stated}


def raw_text(prompt: Prompt) -> str:
    """The text of the last user message. Raises `InvalidRequestError` if there is none."""
    for item in reversed(prompt.items):
        if isinstance(item, User):
            return join_text(item.parts, str)
    raise InvalidRequestError("`raw_prompt` sends the last user message, and there is none", provider=PROVIDER)


def _prompt(ask: Ask) -> str | list[int]:
    if ask.tokens is None:
        return wire_text(raw_text(ask.prompt))
    return [*ask.tokens.sent]
