"""The payload of `llm:tokens`: what a model call was prompted with and what it sampled, token by token."""

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

from ._ask import Ask
from ._response_handling import finish_reason
from ._strict_json import Json, wire_value
from ._turn import FunctionCall, Item, Reasoning, ReplyTokens, TokenUsage, Turn, shown_text

IMPOSSIBLE: Final = -9999.0
"""vLLM's number for a log probability of minus infinity, which the kernel's events cannot hold."""

ASKED_AGAIN: Final = "asked again"

NO_TOKENS: Final = (
    "the server gives no token ids, or not all of them, so there is no `llm:tokens` event of its replies:"
    " `return_token_ids` and `token_in` need vLLM's `return_token_ids` at /v1/chat/completions"
)


def token_payload(ask: Ask, turn: Turn, told: Sequence[ReplyTokens]) -> dict[str, Any] | None:
    """The tokens of one round; None if the server gave no ids. `told`: those of the rounds before it of the same call.

    `logprobs` has one number for each of `token_ids`, and is None if the server gave others.
    """
    tokens, options = turn.tokens, ask.options
    if tokens is None:
        return None
    logprobs = [one.logprob if isfinite(one.logprob) else IMPOSSIBLE for one in turn.logprobs or ()]
    return {
        "call_index": len(told),
        "prompt_token_ids": [*tokens.prompt],
        "token_ids": [*tokens.sampled],
        "logprobs": logprobs if len(logprobs) == len(tokens.sampled) else None,
        "finish_reason": finish_reason(turn),
        "endpoint": options.endpoint,
        "response_id": wire_value(turn.response_id),
        "policy_version": wire_value(turn.policy_version),
        "token_in": ask.tokens is not None,
        "segment": _segment(ask, tokens, told),
        "sampling": wire_value(_sampling(ask)),
        "usage": _usage(turn.usage),
        "content": wire_value([_block(item) for item in turn.items]),
    }


def _segment(ask: Ask, tokens: ReplyTokens, told: Sequence[ReplyTokens]) -> str | None:
    """Why the prompt does not extend the round before it; a reply may be given up, and asked for once more."""
    if not told:
        return ask.segment
    before = told[-1]
    if tokens.prompt[: len(before.prompt) + len(before.sampled)] == (*before.prompt, *before.sampled):
        return None
    return ASKED_AGAIN if tokens.prompt == before.prompt else ask.segment


def _sampling(ask: Ask) -> dict[str, Json]:
    """The sampling settings that the request states, by vLLM's names."""
    options = ask.options
    stated = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_output_tokens,
        "stop": options.stop,
        **{key: options.extra_body.get(key) for key in ("top_k", "min_p", "seed", "repetition_penalty")},
    }
    return {key: value for key, value in stated.items() if value is not None}


def _usage(usage: TokenUsage | None) -> dict[str, int]:
    if usage is None:
        return {}
    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    return {key: count for key, count in counts.items() if count is not None}


def _block(item: Item) -> dict[str, str]:
    match item:
        case FunctionCall(call_id=call_id, name=name, arguments=arguments):
            return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
        case Reasoning(text):
            return {"type": "thinking", "thinking": text}
        case _:
            return {"type": "text", "text": shown_text(item)}
