"""Unusual but readable replies, for the replay server."""

from collections.abc import Mapping
from typing import Final

from tests.support.replay import Reply
from tests.support.wire import (
    ANSWER_DELTAS,
    COMPLETED,
    EVENTS,
    MESSAGE,
    OPENING,
    REASONING,
    event,
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


def twice(*events: bytes) -> list[bytes]:
    return [each for each in events for _ in range(2)]


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
    "an unstreamed reply to a stream request": whole_reply(),
    "a stream reply to an unstreamed request": sse_reply(*EVENTS),
}  # fmt: skip
