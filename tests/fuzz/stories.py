"""Streams made of bytes, three for each event, so that a fuzzer varies events instead of JSON syntax."""

import json
from collections.abc import Callable
from typing import Any, Final

WORDS: Final = (
    "", " ", "\n\n", "Paris", "Zü\u200b🗼", "\x00\x1b[2J", "<think>", "{}", "[]", '{"city": "Paris"}', '{"city": "Par',
    '{"days": "[1, 2]"}', '{"city": NaN}',
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "<tool_call>{", "<function=get_weather><parameter=city>Rome</parameter></function>", '[TOOL_CALLS][{"name": "x"}]',
    '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Rome"}<|call|>', "null", "1e999", '"\\ud800"',
    "get_weather", "functions.get_weather<|channel|>json", "max_output_tokens", "content_filter",
    "[" * 3000, "8" * 5000, '{"city": ' * 120 + "1" + "}" * 120, '{"city": "\\ud83d"}',
)  # fmt: skip
STATUSES: Final = ("completed", "incomplete", "failed", "cancelled", "in_progress", None)
TYPES: Final = ("message", "reasoning", "function_call", "mcp_call", "web_search_call", "odd\x1b")


def events_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of each event. Terminal events contain the items opened so far."""
    output: list[dict[str, Any]] = []
    events: list[tuple[bytes, bytes]] = []
    for at in range(0, len(data) - 2, 3):
        kind, place, word = data[at : at + 3]
        name, fields = KINDS[kind % len(KINDS)](place, word, output)
        events.append((name.encode() if kind < 200 else b"", json.dumps({**fields, "type": name}).encode()))
    return events


def _word(number: int) -> str:
    return WORDS[number % len(WORDS)]


def _item(place: int, word: int) -> dict[str, Any]:
    text = _word(word)
    kind = TYPES[(place >> 2) % len(TYPES)]
    part = {"type": ("output_text", "refusal", "image")[place % 3], "text": text if place % 3 == 0 else None}
    part |= {"refusal": text} if place % 3 == 1 else {}
    content: Any = (None, [], [part], [part, part], text)[(place >> 4) % 5]
    named = {"type": kind, "id": (f"id_{word % 4}", None)[place % 2]}
    if kind == "reasoning":
        return {**named, "content": content, "summary": [{"text": text}] if place & 1 else None}
    if kind in ("function_call", "mcp_call"):
        return {**named, "call_id": f"call_{place % 3}", "name": _word(word + place), "arguments": text}
    return {**named, "content": content}


def _delta(place: int, word: int, _output: list[dict[str, Any]]) -> dict[str, Any]:
    return {"delta": _word(word), "output_index": place % 4, "content_index": (place >> 4) % 2, "summary_index": 0}


def _whole_item(place: int, word: int, output: list[dict[str, Any]]) -> dict[str, Any]:
    item = _item(place, word)
    output.append(item)
    return {"item": item, "output_index": place % 5}


def _terminal_event(place: int, word: int, output: list[dict[str, Any]]) -> dict[str, Any]:
    shown = (output, output[::-1], output[:-1], [*output, _item(place, word)], None)[place % 5]
    reason = {"reason": _word(word)} if place & 64 else None
    usage = {"input_tokens": place, "output_tokens": word} if place & 128 else None
    error = _word(word) if place & 32 else None
    status = STATUSES[(place >> 3) % len(STATUSES)]
    return {
        "response": {"output": shown, "status": status, "incomplete_details": reason, "usage": usage, "error": error}
    }


def _error(place: int, word: int, _output: list[dict[str, Any]]) -> dict[str, Any]:
    return {"error": {"message": _word(word), "code": (400, 404, 500, "odd", None)[place % 5]}, "message": _word(word)}


Teller = Callable[[int, int, list[dict[str, Any]]], tuple[str, dict[str, Any]]]


def _frame(name: str, fields: Callable[[int, int, list[dict[str, Any]]], dict[str, Any]]) -> Teller:
    return lambda place, word, output: (name, fields(place, word, output))


KINDS: Final[list[Teller]] = [
    *[_frame("response.output_text.delta", _delta)] * 3,
    *[_frame("response.reasoning_text.delta", _delta)] * 2,
    _frame("response.reasoning_summary_text.delta", _delta),
    _frame("response.refusal.delta", _delta),
    *[_frame("response.output_item.added", _whole_item)] * 2,
    *[_frame("response.output_item.done", _whole_item)] * 2,
    _frame("response.completed", _terminal_event),
    _frame("response.incomplete", _terminal_event),
    _frame("error", _error),
]
