"""Chat streams made of bytes, three for each chunk, so that a fuzzer varies chunks instead of JSON syntax."""

import json
from collections.abc import Callable
from typing import Any, Final

from tests.fuzz.stories import WORDS

REASONS: Final = ("stop", "tool_calls", "length", "content_filter", "abort", "error", "function_call", "odd\x1b", None)
IDS: Final = (None, "", "a", "b", 7)
NAMES: Final = (None, "", "get_", "weather", "get_weather", "odd\x1b")
KEYS: Final = ("reasoning", "reasoning_content", "refusal", "content")
TYPES: Final = ("text", "refusal", "thinking", "reasoning.text", "reasoning.encrypted", "image_url")


def chunks_of(data: bytes) -> list[bytes]:
    """The data of each event, without the one that ends the stream."""
    return [KINDS[data[at] % len(KINDS)](data[at + 1], data[at + 2]) for at in range(0, len(data) - 2, 3)]


def _word(number: int) -> str:
    return WORDS[number % len(WORDS)]


def _choice(delta: dict[str, Any], reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, **fields}
    return json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()


def _text(place: int, word: int) -> bytes:
    return _choice({KEYS[place % 4]: _word(word), KEYS[(place >> 2) % 4]: _word(word + (place >> 4))})


def _parts(place: int, word: int) -> bytes:
    part = {"type": TYPES[place % 6], "text": _word(word), "thinking": _word(word) if place & 8 else None}
    part |= {"refusal": _word(word)} if place % 6 == 1 else {}
    return _choice({("content", "reasoning_details", "thinking_blocks")[(place >> 4) % 3]: [part]})


def _call(place: int, word: int) -> bytes:
    arguments: Any = _word(word) if place & 1 else {"city": _word(word)} if word & 1 else None
    function = {"name": NAMES[(place >> 1) % 6], "arguments": arguments}
    if place > 250:
        return _choice({"function_call": function})
    return _choice({"tool_calls": [{"index": (None, 0, 1)[place % 3], "id": IDS[word % 5], "function": function}]})


def _half(place: int, word: int) -> bytes:
    half = ("\ud83d", "\ude00")[word % 2]
    piece = {"function": {"name": half if place & 2 else "f", "arguments": {half: half} if place & 4 else half}}
    return _choice({"content": half} if place & 1 else {"tool_calls": [piece]})


def _tokens(place: int, word: int) -> bytes:
    logprobs = {"content": [{"token": _word(word), "logprob": -1.0, "bytes": None}]} if place & 1 else None
    return _choice({"content": "x"}, token_ids=[place, word] if place & 2 else None, logprobs=logprobs)


def _ending(place: int, word: int) -> bytes:
    return _choice({"content": _word(word)} if place & 1 else {}, REASONS[(place >> 1) % len(REASONS)])


def _usage(place: int, word: int) -> bytes:
    usage = {"prompt_tokens": place, "completion_tokens": word, "completion_tokens_details": _word(word)}
    return json.dumps({"choices": ([], None)[place % 2], "usage": usage, "prompt_token_ids": [1]}).encode()


def _error(place: int, word: int) -> bytes:
    error = {"message": _word(word), "code": (400, "429", 500, "odd", None)[place % 5]}
    return json.dumps({"error": error if place & 1 else _word(word)}).encode()


def _done(_place: int, _word: int) -> bytes:
    return b"[DONE]"


KINDS: Final[list[Callable[[int, int], bytes]]] = [
    *[_text] * 4, _parts, *[_call] * 4, _half, _tokens, *[_ending] * 2, _usage, _error, _done,
]  # fmt: skip
