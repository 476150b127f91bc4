"""Unusual but readable replies: the answer is correct and costs no retry."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from amplifier_core.message_models import ToolSpec

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.call_events import EventCounts, assert_contract, event_counts
from tests.support.exchange import WEATHER, block_contents, user
from tests.support.oddities import BODY, ODDITIES, ONE_MB, twice
from tests.support.provider_session import CITIES, provider_session
from tests.support.recordings import load_broken_stream
from tests.support.replay import ReplayServer, Reply
from tests.support.speaker import ANSWERS
from tests.support.speech import ANSWER_DELTAS, ANSWER_TEXT, REASONING_TEXT
from tests.support.wire import (
    COMPLETED,
    EVENTS,
    HEALTHY,
    MESSAGE,
    OPENING,
    REASONING,
    REPLY_BODY,
    SSE,
    event,
    item_done,
    message_item,
    reasoning_item,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

TABLE = {f"{endpoint}-{name}": (endpoint, odd) for endpoint, odds in ODDITIES.items() for name, odd in odds.items()}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize(("endpoint", "odd"), TABLE.values(), ids=TABLE)
async def test_an_unusual_reply_is_read_correctly(endpoint: EndpointName, odd: Reply, stream: bool) -> None:
    async with (
        ReplayServer(odd) as server,
        provider_session(server, endpoint=endpoint, use_streaming=stream) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


async def test_a_continuation_streams_into_the_last_text_even_if_an_earlier_one_was_never_ended() -> None:
    one, two = message_item("One."), message_item("Two, ") | {"id": "msg_2"}
    cut = response(one, two, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    first = [text_delta("One.", 0), text_delta("Two, ", 1), item_done(two, 1)]
    second = [text_delta("three.", 0), event("response.completed", response=response(message_item("three.")))]

    async with (
        ReplayServer(sse_reply(*first, event("response.incomplete", response=cut)), sse_reply(*second)) as server,
        provider_session(server) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("text", "One."), ("text", "Two, three.")]
    assert_contract(session, reply)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
async def test_an_empty_finish_reason_does_not_complete_a_stream_that_breaks(endpoint: EndpointName) -> None:
    answer = ANSWERS[endpoint]
    unended = [each.replace(b'"finish_reason":null', b'"finish_reason":""') for each in answer.stream.unended]

    async with (
        ReplayServer(sse_reply(*unended[:-1]), answer.sse()) as server,
        provider_session(server, endpoint=endpoint) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=1, aborted=1)


UNREAD: Mapping[str, bytes] = {
    "a number out of range": b"1e999",
    "an integer of 5000 digits": b"9" * 5000,
    "invalid UTF-8": b'"\xff"',
    "nested deeper than the kernel's hooks take": b"[" * 500 + b"]" * 500,
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize("value", UNREAD.values(), ids=UNREAD)
async def test_an_invalid_value_in_an_unread_field_does_not_lose_the_reply(value: bytes, stream: bool) -> None:
    """The reply is complete before anybody reads `metadata`."""
    unread = REPLY_BODY.replace(b"{", b'{"metadata": %b, ' % value, 1)
    end = b'event: response.completed\ndata: {"type": "response.completed", "response": %b}\n\n' % unread
    answer = sse_reply(*EVENTS[:-1], end) if stream else whole_reply(unread)
    verbose: dict[str, Any] = {"raw": True, "debug": True, "raw_debug": True}

    async with (
        ReplayServer(answer) as server,
        provider_session(server, use_streaming=stream, **verbose) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_arguments_that_are_an_object_are_those_of_the_call(stream: bool) -> None:
    call = {
        "type": "function_call",
        "id": 1,
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": {"city": "Zürich"},
    }
    end = response(call)
    answer = sse_reply(
        *OPENING, event("response.output_item.added", item=call | {"arguments": ""}, output_index=0),
        item_done(call, 0), event("response.completed", response=end),
    )  # fmt: skip

    async with (
        ReplayServer(answer if stream else whole_reply(json.dumps(end).encode())) as server,
        provider_session(server, use_streaming=stream) as (session, provider),
    ):
        reply = await provider.complete(WEATHER)

    assert block_contents(reply) == [("get_weather", {"city": "Zürich"})]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


async def test_the_call_of_a_custom_tool_is_a_call_with_its_text() -> None:
    """vLLM gives a custom tool's text in an item of its own kind."""
    call = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "sql", "input": "SELECT 1"}
    spec: dict[str, Any] = {"type": "custom", "name": "sql", "parameters": {}}

    async with (
        ReplayServer(whole_reply(json.dumps(response(call)).encode())) as server,
        provider_session(server, use_streaming=False) as (session, provider),
    ):
        reply = await provider.complete(user("How many?", ToolSpec(**spec)))

    assert block_contents(reply) == [("sql", {"input": "SELECT 1"})]
    assert reply.finish_reason == "tool_calls"
    assert_contract(session, reply)


async def test_a_character_in_two_deltas_is_streamed_whole() -> None:
    async with (
        ReplayServer(ODDITIES["responses"]["an emoji in two deltas of two reads"]) as server,
        provider_session(server) as (session, provider),
    ):
        await provider.complete(CITIES)

    streamed = [delta["text"] for delta in session.payloads("llm:stream_block_delta")]
    assert streamed[-2:] == ["Paris ", "🗼."]


async def test_repeated_or_reordered_deltas_are_corrected_by_the_final_item() -> None:
    shuffled = [
        *OPENING,
        *REASONING,
        MESSAGE[0],
        *twice(*map(text_delta, reversed(ANSWER_DELTAS))),
        MESSAGE[-1],
        COMPLETED,
    ]

    async with ReplayServer(sse_reply(*shuffled)) as server, provider_session(server) as (session, provider):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)


async def test_items_completed_out_of_order_keep_their_streamed_positions() -> None:
    events = [*OPENING, *REASONING, *MESSAGE]
    ended = event("response.completed", response=response(message_item(), reasoning_item()))

    async with ReplayServer(sse_reply(*events, ended)) as server, provider_session(server) as (session, provider):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert_contract(session, reply)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_a_reply_of_100_megabytes_is_read(stream: bool) -> None:
    text = ONE_MB * (50 if stream else 100)
    deltas = [text_delta(ONE_MB, 0) for _ in range(50)] if stream else []
    end = response(message_item(text))
    body = sse_reply(*deltas, item_done(message_item(text), 0), event("response.completed", response=end))
    answer = body if stream else whole_reply(json.dumps(end).encode())

    async with ReplayServer(answer) as server, provider_session(server, use_streaming=stream) as (session, provider):
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
async def test_a_slow_stream_does_not_time_out_while_bytes_arrive(shape: dict[str, Any]) -> None:
    slow = replace(HEALTHY[True], **shape, delay_between_pieces=0.03)

    async with (
        ReplayServer(slow) as server,
        provider_session(server, stream_idle_timeout=0.6, max_retries=0) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert len(BODY) / 64 * 0.03 > 0.6
    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert_contract(session, reply)


async def test_an_answer_truncated_by_a_graceful_shutdown_looks_complete() -> None:
    """After SIGTERM vLLM 0.32 truncates the running reply, but reports it as "completed".

    Nothing in the stream distinguishes it from a complete answer, so it is returned as one. What a session can do is
    to see that the next call fails or waits (`startup_timeout`). The recording is of "Count from 1 to 100."
    """
    async with (
        ReplayServer(load_broken_stream("sigterm_server")) as server,
        provider_session(server) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("thinking", "I will count."), ("text", "1, 2, 3, 4, 5,")]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, reply)


def test_the_reply_used_for_faults_is_complete() -> None:
    assert HEALTHY[True] == Reply(200, SSE, BODY)
    assert reasoning_item()["content"][0]["text"] == REASONING_TEXT


@pytest.mark.parametrize("named", [True, False], ids=["with an event line", "without an event line"])
async def test_a_large_event_that_arrives_slowly_does_not_time_out(named: bool) -> None:
    large = event("response.completed", response=response(message_item("x" * 30_000)))  # its type is at its end
    slow = sse_reply(large if named else large.partition(b"\n")[2], piece=1000, delay_between_pieces=0.03)

    async with (
        ReplayServer(slow) as server,
        provider_session(server, stream_idle_timeout=0.6, max_retries=0) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("text", "x" * 30_000)]
    assert_contract(session, reply)
