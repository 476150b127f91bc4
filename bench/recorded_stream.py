"""A recorded vLLM reply, scaled to the number of events that a benchmark needs."""

import json
from dataclasses import dataclass
from functools import cache
from itertools import cycle, groupby, islice
from typing import Any

from tests.support.recordings import load_recording

RECORDING = "tiny-qwen3", "r5_long_whole_stream"
WITHOUT_REASONING = "tiny-qwen3", "thinking_off_kwargs_stream"

STAMP = "0000000000.000000 "
"""The text of every delta of a stamped stream; the server replaces it with the time of sending."""

Json = dict[str, Any]


@dataclass(frozen=True)
class RecordedStream:
    """One reply as a server sends it, an event at a time."""

    events: tuple[bytes, ...]
    tokens: int
    """The number of deltas: vLLM sends one for each token."""
    answer: str
    """The text of the message, without the reasoning before it."""
    raw: str = ""
    """What a client that reads no markup takes for the answer, at an endpoint that sends it."""


@cache
def scale_recording(tokens: int, *, stamped: bool = False) -> RecordedStream:
    """The recording with about this many deltas, its reasoning and its answer in their recorded proportions.

    A reply of one token is cut from a recording without reasoning: the other would keep a token of each.
    """
    recording = WITHOUT_REASONING if tokens == 1 else RECORDING
    recorded_events = [_parse(block) for block in load_recording(*recording).body.split(b"\n\n") if block]
    factor = tokens / sum(_is_delta(event) for event in recorded_events)
    events: list[Json] = []
    texts: dict[str, str] = {}
    answer, count = "", 0
    for is_delta, group in groupby(recorded_events, _is_delta):
        run = list(group)
        longer = list(islice(cycle(run), max(1, round(len(run) * factor)))) if is_delta else run
        if is_delta:
            count += len(longer)
            longer = [event | {"delta": STAMP} for event in longer] if stamped else longer
            answer = texts[_text(run)] = _text(longer)
        events += longer
    rendered = (_render(_with_text(event | {"sequence_number": n}, texts)) for n, event in enumerate(events))
    return RecordedStream(tuple(rendered), count, answer)


def _parse(block: bytes) -> Json:
    event: Json = json.loads(block.partition(b"\ndata: ")[2])
    return event


def _render(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _is_delta(event: Json) -> bool:
    kind: str = event["type"]
    return kind.endswith(".delta")


def _text(deltas: list[Json]) -> str:
    return "".join(event["delta"] for event in deltas)


def _with_text(value: Any, texts: dict[str, str]) -> Any:
    """The same JSON with the longer text in place of the recorded one, in the events that end a part."""
    match value:
        case str():
            return texts.get(value, value)
        case list():
            return [_with_text(one, texts) for one in value]
        case dict():
            return {key: _with_text(one, texts) if key != "delta" else one for key, one in value.items()}
        case _:
            return value
