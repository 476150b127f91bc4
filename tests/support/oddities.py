"""Unusual but readable replies, for the replay server."""

import json
from collections.abc import Mapping
from typing import Any, Final

from tests.support.replay import Reply
from tests.support.wire import (
    ANSWER_DELTAS,
    COMPLETED,
    EVENTS,
    MESSAGE,
    OPENING,
    REASONING,
    REPLY_BODY,
    event,
    item_done,
    message_item,
    reasoning_item,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

BODY: Final = b"".join(EVENTS)
GARBAGE: Final = b"event: response.output_text.delta\ndata: {oh\n\n\xff\xfe\x00: \r\n\r\ndata: more\n\n"
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
AT_9: Final = {"output_index": 9}
RENUMBERED: Final = BODY.replace(b'"output_index": 1', b'"output_index": 40').replace(
    b'"output_index": 0', b'"output_index": 7'
)
ONE_MB: Final = "x" * 1_000_000


FLOATS: Final[Mapping[str, Any]] = {
    "id": 17,
    "usage": {"input_tokens": 9.0, "output_tokens": "8", "input_tokens_details": {"cached_tokens": []}},
}
"""Odd values of fields that every reply has."""

TOWER: Final = "🗼".encode()
HALVES: Final = (rb"Paris \ud83d", rb"\uddfc.")
"""The last delta of the answer as a gateway sends it that cuts strings in UTF-16, as JavaScript does."""

SUMMARY: Final = {"summary": [{"type": "summary_text", "text": "Cities."}]}
SUMMARISED: Final = response({**reasoning_item(), **SUMMARY}, message_item())


def twice(*events: bytes) -> list[bytes]:
    return [each for each in events for _ in range(2)]


def _half(text: bytes) -> bytes:
    """The event of a text delta, as raw JSON."""
    return text_delta("#").replace(b"#", text)


_SUMMARY_DELTA: Final = event("response.reasoning_summary_text.delta", delta="Cities.", output_index=0, summary_index=0)


ODDITIES: Mapping[str, Reply] = {
    "garbage after the terminal event": sse_reply(*EVENTS, GARBAGE),
    "garbage in a later read": sse_reply(*EVENTS, GARBAGE, piece=len(BODY), delay_between_pieces=0.05),
    "cut after the terminal event": sse_reply(*EVENTS, ending="cut"),
    "reset after the terminal event": sse_reply(*EVENTS, ending="reset"),
    "silence after the terminal event": sse_reply(*EVENTS, ending="stall"),
    "endless pings after the terminal event": sse_reply(*EVENTS, ending="stall", drip=PING),
    "no blank line after the terminal event": sse_reply(BODY.rstrip(b"\n")),
    "the terminal event twice": sse_reply(*EVENTS, COMPLETED),
    "a failure after the terminal event": sse_reply(*EVENTS, event("error", message="too late")),
    "text of an item never opened": sse_reply(*OPENING, *REASONING, *map(text_delta, ANSWER_DELTAS), COMPLETED),
    "items never opened nor closed": sse_reply(*OPENING, *REASONING[1:-1], *MESSAGE[1:-1], COMPLETED),
    "only the terminal event": sse_reply(COMPLETED),
    "indices with gaps": sse_reply(RENUMBERED),
    "opened twice and closed twice": sse_reply(
        *OPENING, *twice(REASONING[0]), *REASONING[1:-1], *twice(REASONING[-1]),
        *twice(MESSAGE[0]), *MESSAGE[1:-1], *twice(MESSAGE[-1]), COMPLETED,
    ),
    "closed and then opened": sse_reply(
        *OPENING, REASONING[-1], *REASONING[:-1], *MESSAGE, COMPLETED
    ),
    "an end event for an unknown item": sse_reply(
        *OPENING, *REASONING, *MESSAGE, event("response.output_text.done", text="?", **AT_9), COMPLETED
    ),
    "comments, pings and unknown events between": sse_reply(
        *(piece for each in EVENTS for piece in (b": hello\n\n", PING, event("response.queued", **AT_9), each))
    ),
    "CRLF line ends": sse_reply(BODY.replace(b"\n", b"\r\n"), piece=7),
    "byte by byte": sse_reply(*EVENTS, piece=1),
    "no event lines": sse_reply(*(each.partition(b"\n")[2] for each in EVENTS), b"data: [DONE]\n\n"),
    "counts that are not integers, and an id that is one": sse_reply(
        *EVENTS[:-1], event("response.completed", response=response(reasoning_item(), message_item(), **FLOATS))
    ),
    "the same, unstreamed": whole_reply(json.dumps(response(reasoning_item(), message_item(), **FLOATS)).encode()),
    "an emoji in two deltas": sse_reply(
        *(delta for each in EVENTS for delta in (map(_half, HALVES) if each == EVENTS[-3] else [each]))
    ),
    "an emoji in two deltas of two reads": sse_reply(
        *(delta for each in EVENTS for delta in (map(_half, HALVES) if each == EVENTS[-3] else [each])), piece=1
    ),
    "an emoji as a pair of escapes": sse_reply(BODY.replace(TOWER, rb"\ud83d\uddfc")),
    "half an emoji in a field that nobody reads": whole_reply(REPLY_BODY.replace(b"{", rb'{"metadata": "\ud83d", ', 1)),
    "a summary beside the thought": sse_reply(
        *EVENTS[:-1], event("response.completed", response=SUMMARISED)
    ),
    "a summary after the thought": sse_reply(
        *OPENING, *REASONING[:-1], _SUMMARY_DELTA, item_done({**reasoning_item(), **SUMMARY}, 0), *MESSAGE,
        event("response.completed", response=SUMMARISED),
    ),
    "a summary beside the thought, unstreamed": whole_reply(json.dumps(SUMMARISED).encode()),
    "every event is called message": sse_reply(
        *(b"event: message\n" + each.partition(b"\n")[2] for each in EVENTS), b"event: message\ndata: [DONE]\n\n"
    ),
    "some events are called message": sse_reply(
        *(b"event:message\n" + each.partition(b"\n")[2] if n % 2 else each for n, each in enumerate(EVENTS))
    ),
    "an unstreamed reply to a stream request": whole_reply(),
    "a stream reply to an unstreamed request": sse_reply(*EVENTS),
}  # fmt: skip
