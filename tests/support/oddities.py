"""What a server may do strangely and still be understood, as replies of the replay server."""

from collections.abc import Mapping
from typing import Final

from tests.support.replay import Reply
from tests.support.wire import (
    ANSWER,
    COMPLETED,
    EVENTS,
    OPENING,
    SPEAKING,
    THINKING,
    event,
    streamed,
    text_delta,
    whole,
)

BODY: Final = b"".join(EVENTS)
GARBAGE: Final = b"event: response.output_text.delta\ndata: {oh\n\n\xff\xfe\x00: \r\n\r\ndata: more\n\n"
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
AT_9: Final = {"output_index": 9}
RENUMBERED: Final = BODY.replace(b'"output_index": 1', b'"output_index": 40').replace(
    b'"output_index": 0', b'"output_index": 7'
)
ONE_MB: Final = "x" * 1_000_000


def repeated(*events: bytes) -> list[bytes]:
    return [each for each in events for _ in range(2)]


ODDITIES: Mapping[str, Reply] = {
    "garbage after the terminal event": streamed(*EVENTS, GARBAGE),
    "garbage in a later read": streamed(*EVENTS, GARBAGE, piece=len(BODY), delay_between_pieces=0.05),
    "cut after the terminal event": streamed(*EVENTS, ending="cut"),
    "reset after the terminal event": streamed(*EVENTS, ending="reset"),
    "silence after the terminal event": streamed(*EVENTS, ending="stall"),
    "endless pings after the terminal event": streamed(*EVENTS, ending="stall", drip=PING),
    "no blank line after the terminal event": streamed(BODY.rstrip(b"\n")),
    "the terminal event twice": streamed(*EVENTS, COMPLETED),
    "a failure after the terminal event": streamed(*EVENTS, event("error", message="too late")),
    "text of an item never opened": streamed(*OPENING, *THINKING, *map(text_delta, ANSWER), COMPLETED),
    "items never opened nor closed": streamed(*OPENING, *THINKING[1:-1], *SPEAKING[1:-1], COMPLETED),
    "nothing but the terminal event": streamed(COMPLETED),
    "indices with gaps": streamed(RENUMBERED),
    "opened twice and closed twice": streamed(
        *OPENING, *repeated(THINKING[0]), *THINKING[1:-1], *repeated(THINKING[-1]),
        *repeated(SPEAKING[0]), *SPEAKING[1:-1], *repeated(SPEAKING[-1]), COMPLETED,
    ),
    "closed and then opened": streamed(
        *OPENING, THINKING[-1], *THINKING[:-1], *SPEAKING, COMPLETED
    ),
    "an end for an item that never was": streamed(
        *OPENING, *THINKING, *SPEAKING, event("response.output_text.done", text="?", **AT_9), COMPLETED
    ),
    "comments, pings and unknown events between": streamed(
        *(piece for each in EVENTS for piece in (b": hello\n\n", PING, event("response.queued", **AT_9), each))
    ),
    "lines that end as in Windows": streamed(BODY.replace(b"\n", b"\r\n"), piece=7),
    "byte by byte": streamed(*EVENTS, piece=1),
    "no event lines": streamed(*(each.partition(b"\n")[2] for each in EVENTS), b"data: [DONE]\n\n"),
    "a whole reply where a stream was asked for": whole(),
    "a stream where a whole reply was asked for": streamed(*EVENTS),
}  # fmt: skip
