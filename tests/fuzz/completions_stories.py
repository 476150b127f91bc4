"""Completion streams made of bytes, three for each chunk, so that a fuzzer varies chunks instead of JSON syntax."""

import json
from collections.abc import Callable
from typing import Any, Final

from tests.fuzz.stories import WORDS

MARKUP: Final = (
    "<think>", "</think>", "<think", ">", "<tool_call>", "</tool_call>", "\n", '{"name": "get_weather", "arguments": ',
    "}", '{"city": "Paris"}', "<function=get_weather>", "<parameter=city>", "</function>", "[TOOL_CALLS]",
    "get_weather[ARGS]", "<|python_tag|>", "<|tool_calls_section_begin|>", "<|im_end|>", "```", "<", "/", "tool_call",
)  # fmt: skip
"""What models write around their thoughts and calls, and parts of it."""

REASONS: Final = ("stop", "length", "abort", "error", "content_filter", "odd\x1b", None)


def chunks_of(data: bytes) -> list[bytes]:
    """The data of each event, without the one that ends the stream."""
    return [KINDS[data[at] % len(KINDS)](data[at + 1], data[at + 2]) for at in range(0, len(data) - 2, 3)]


def _chunk(text: str | None, ids: list[int] | None, reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "text": text, "token_ids": ids, "finish_reason": reason, **fields}
    return json.dumps({"id": "cmpl-1", "model": "m", "choices": [choice]}).encode()


def _markup(place: int, word: int) -> bytes:
    pieces = (MARKUP[place % len(MARKUP)], WORDS[word % len(WORDS)] if word & 1 else MARKUP[(word >> 1) % len(MARKUP)])
    return _chunk("".join(pieces), [place, word])


def _text(place: int, word: int) -> bytes:
    return _chunk(WORDS[word % len(WORDS)], None if place & 1 else [word])


def _half(place: int, word: int) -> bytes:
    return _chunk(("\ud83d", "\ude00")[word % 2], [place])


def _logprobs(place: int, word: int) -> bytes:
    tokens = [WORDS[word % len(WORDS)]] * (place % 3)
    told = {"tokens": tokens, "token_logprobs": [-1.0, None][: len(tokens)], "top_logprobs": None}
    return _chunk("x", [place] if place & 4 else None, logprobs=told)


def _ending(place: int, word: int) -> bytes:
    reason = REASONS[place % len(REASONS)]
    return _chunk(MARKUP[word % len(MARKUP)] if place & 64 else "", [word] if place & 128 else None, reason)


def _other(place: int, word: int) -> bytes:
    said: dict[str, Any] = {"message": WORDS[word % len(WORDS)], "code": (400, 404, 500, "odd", None)[place % 5]}
    usage = {"prompt_tokens": place, "completion_tokens": word}
    bodies: list[dict[str, Any]] = [
        {"choices": [], "usage": usage}, {"choices": None, "usage": WORDS[word % len(WORDS)]}, {"error": said},
        {"object": "error", **said}, {"choices": [{"index": 1, "text": "other"}]}, {},
    ]  # fmt: skip
    return json.dumps(bodies[place % len(bodies)]).encode()


KINDS: Final[list[Callable[[int, int], bytes]]] = [*[_markup] * 5, *[_text] * 2, _half, _logprobs, _ending, _other]
