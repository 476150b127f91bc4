"""What a server may do strangely and still be understood: the answer is right, and costs no retry."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.contract.recordings import fault
from tests.contract.replay import ReplayServer, Reply
from tests.faults.asking import CITIES, asking
from tests.faults.observed import Told, assert_contract, told
from tests.faults.wire import (
    ANSWER,
    ANSWER_TEXT,
    COMPLETED,
    EVENTS,
    HEALTHY,
    OPENING,
    SPEAKING,
    SSE,
    THINKING,
    THOUGHT_TEXT,
    WHOLE,
    event,
    item_done,
    message_item,
    reasoning_item,
    response,
    streamed,
    text_delta,
    whole,
)
from tests.live.exchange import said

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


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("odd", ODDITIES.values(), ids=ODDITIES)
async def test_an_odd_reply_is_understood(odd: Reply, stream: bool) -> None:
    async with ReplayServer(odd) as server, asking(server, use_streaming=stream) as (session, provider):
        reply = await provider.complete(CITIES)

    assert said(reply) == [("thinking", THOUGHT_TEXT), ("text", ANSWER_TEXT)]
    assert told(session) == Told(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


UNREAD: Mapping[str, bytes] = {
    "a number beyond all measure": b"1e999",
    "an integer without end": b"9" * 5000,
    "invalid UTF-8": b'"\xff"',
    "nested deeper than the kernel's hooks take": b"[" * 500 + b"]" * 500,
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("value", UNREAD.values(), ids=UNREAD)
async def test_what_we_do_not_read_of_a_reply_cannot_cost_it_even_where_all_of_it_is_dumped(
    value: bytes, stream: bool
) -> None:
    """The reply was streamed and paid for before anybody looks at `metadata`."""
    told_so = WHOLE.replace(b"{", b'{"metadata": %b, ' % value, 1)
    end = b'event: response.completed\ndata: {"type": "response.completed", "response": %b}\n\n' % told_so
    answer = streamed(*EVENTS[:-1], end) if stream else whole(told_so)
    telling: dict[str, Any] = {"raw": True, "debug": True, "raw_debug": True}

    async with ReplayServer(answer) as server, asking(server, use_streaming=stream, **telling) as (session, provider):
        reply = await provider.complete(CITIES)

    assert said(reply) == [("thinking", THOUGHT_TEXT), ("text", ANSWER_TEXT)]
    assert told(session) == Told(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


async def test_deltas_that_come_twice_or_out_of_order_are_set_right_by_the_end() -> None:
    shuffled = [
        *OPENING,
        *THINKING,
        SPEAKING[0],
        *repeated(*map(text_delta, reversed(ANSWER))),
        SPEAKING[-1],
        COMPLETED,
    ]

    async with ReplayServer(streamed(*shuffled)) as server, asking(server) as (session, provider):
        reply = await provider.complete(CITIES)

    assert said(reply) == [("thinking", THOUGHT_TEXT), ("text", ANSWER_TEXT)]
    assert told(session) == Told(1, ["ok"], retries=0, aborted=0)


async def test_items_that_end_out_of_order_keep_the_places_in_which_they_were_seen() -> None:
    events = [*OPENING, *THINKING, *SPEAKING]
    ended = event("response.completed", response=response(message_item(), reasoning_item()))

    async with ReplayServer(streamed(*events, ended)) as server, asking(server) as (session, provider):
        reply = await provider.complete(CITIES)

    assert said(reply) == [("thinking", THOUGHT_TEXT), ("text", ANSWER_TEXT)]
    assert_contract(session, reply)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_reply_of_100_megabytes(stream: bool) -> None:
    text = ONE_MB * (50 if stream else 100)
    deltas = [text_delta(ONE_MB, 0) for _ in range(50)] if stream else []
    end = response(message_item(text))
    body = streamed(*deltas, item_done(message_item(text), 0), event("response.completed", response=end))
    answer = body if stream else whole(json.dumps(end).encode())

    async with ReplayServer(answer) as server, asking(server, use_streaming=stream) as (session, provider):
        reply = await provider.complete(CITIES)

    (block,) = reply.content
    assert block.type == "text"
    assert block.text == text
    assert_contract(session, reply)


@pytest.mark.parametrize(
    "shape",
    [{"drip": b"", "piece": 64}, {"drip": b"", "piece": 400}],
    ids=["a little of an event at a time", "an event at a time"],
)
async def test_a_stream_that_keeps_saying_something_is_waited_for(shape: dict[str, Any]) -> None:
    slow = replace(HEALTHY[True], **shape, delay_between_pieces=0.03)

    async with (
        ReplayServer(slow) as server,
        asking(server, stream_idle_timeout=0.6, max_retries=0) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert len(BODY) / 64 * 0.03 > 0.6
    assert said(reply) == [("thinking", THOUGHT_TEXT), ("text", ANSWER_TEXT)]
    assert_contract(session, reply)


async def test_a_server_that_is_stopped_politely_cuts_an_answer_that_nobody_can_know_is_cut() -> None:
    """vLLM 0.32, told by SIGTERM to end, calls the reply that it cuts off "completed", with no word of the cut.

    Nothing in the stream tells it from an answer that ended there, so it is handed on as one. What a session can do is
    to see that the next call fails or waits (`startup_timeout`). The recording is of "Count from 1 to 100."
    """
    async with ReplayServer(fault("sigterm_server")) as server, asking(server) as (session, provider):
        reply = await provider.complete(CITIES)

    assert said(reply) == [("thinking", "I will count."), ("text", "1, 2, 3, 4, 5,")]
    assert told(session) == Told(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


def test_the_broken_replies_are_cut_from_one_that_is_whole() -> None:
    assert HEALTHY[True] == Reply(200, SSE, BODY)
    assert reasoning_item()["content"][0]["text"] == THOUGHT_TEXT
