"""What is retried, how often, after which delay, and never beyond the caller's timeout."""

import asyncio
import time
from typing import Any

import pytest
from amplifier_core.llm_errors import LLMError, LLMTimeoutError, NetworkError, ProviderUnavailableError
from amplifier_core.message_models import ChatRequest

from amplifier_module_provider_vllm import CallKeywords, _retries
from tests.support.call_events import EventCounts, assert_contract, attempts, event_counts, streamed_text
from tests.support.exchange import block_contents
from tests.support.provider_session import CITIES, provider_session
from tests.support.refusals import STATUSES
from tests.support.replay import ReplayServer, Reply
from tests.support.speaker import ANSWERS, Answer
from tests.support.speech import ANSWER_TEXT, REASONING_TEXT
from tests.support.wire import EVENTS, HEALTHY, refusal, sse_reply

BUSY = refusal(503, "The engine is currently busy.")
STALL_OFFSET = ANSWERS["responses"].stall_offset
CUT = sse_reply(*EVENTS, cut_at=STALL_OFFSET, ending="cut")

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


async def test_every_attempt_of_a_stream_starts_from_the_beginning(answer: Answer) -> None:
    """One stream truncated late, one early, one refused, then a complete one."""
    early = len(b"".join(answer.after_reasoning))
    cuts = [answer.sse(cut_at=cut_at, ending="cut") for cut_at in (answer.stall_offset, early)]

    async with (
        ReplayServer(*cuts, BUSY, answer.sse()) as server,
        provider_session(server, endpoint=answer.endpoint) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    *broken, whole = (streamed_text(attempt) for attempt in attempts(session.events))
    assert block_contents(reply) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=3, aborted=2)
    assert whole == REASONING_TEXT + ANSWER_TEXT
    assert all(part and whole.startswith(part) for part in broken)
    assert_contract(session, reply)


@both_ways
async def test_retries_are_counted_and_emitted(answer: Answer, stream: bool) -> None:
    async with (
        ReplayServer(BUSY, BUSY, answer.healthy[stream]) as server,
        provider_session(server, use_streaming=stream, endpoint=answer.endpoint) as (session, p),
    ):
        await p.complete(CITIES)

    keys = ("attempt", "max_retries", "status_code", "provider", "model")
    assert [tuple(data[key] for key in keys) for data in session.payloads("provider:retry")] == [
        (1, 5, 503, "vllm", "tiny-qwen3"),
        (2, 5, 503, "vllm", "tiny-qwen3"),
    ]
    assert server.request_bodies[0] == server.request_bodies[1] == server.request_bodies[2]


@both_ways
@pytest.mark.parametrize("name", [name for name, fault in STATUSES.items() if fault.retries == 0])
async def test_permanent_errors_are_not_retried(name: str, stream: bool) -> None:
    fault = STATUSES[name]

    async with (
        ReplayServer(fault.reply(stream), always=HEALTHY[stream]) as server,
        provider_session(server, endpoint="responses", use_streaming=stream, startup_timeout=60) as (session, provider),
    ):
        with pytest.raises(fault.error):
            await provider.complete(CITIES)

    assert len(server.request_bodies) == 1
    assert event_counts(session) == EventCounts(1, ["error"], retries=0, aborted=0)


@pytest.mark.parametrize("place", ["config", "request", "call"])
@pytest.mark.parametrize(
    ("always", "config"),
    [
        (BUSY, {"max_retries": 1_000}),
        (CUT, {"max_retries": 1_000}),
        (refusal(429, retry_after="200"), {"max_retry_delay": 300}),
        (sse_reply(*EVENTS, ending="stall", cut_at=STALL_OFFSET), {}),
        (sse_reply(*EVENTS, cut_at=STALL_OFFSET, ending="stall", drip=EVENTS[0]), {}),
        (sse_reply(delay_before_headers=3600), {}),
        (refusal(503), {"startup_timeout": 3600, "max_retries": 0}),
    ],
    ids=["busy", "cut", "a long wait asked for", "stall", "endless", "no headers", "starting"],
)
async def test_the_callers_timeout_bounds_all_attempts(always: Reply, config: dict[str, Any], place: str) -> None:
    timeout = 0.5
    config |= {"timeout": timeout} if place == "config" else {}
    request = CITIES.model_copy(update={"timeout": timeout}) if place == "request" else CITIES
    kwargs: CallKeywords = {"timeout": timeout} if place == "call" else {}

    async with ReplayServer(always=always) as server, provider_session(server, **config) as (session, provider):
        began = time.monotonic()
        with pytest.raises(LLMTimeoutError, match=r"no reply within the timeout of 0\.5 s") as raised:
            await provider.complete(request, **kwargs)
        took = time.monotonic() - began
        await asyncio.sleep(0.1)  # the server may still read bytes in transit
        sent = len(server.request_bodies)
        await asyncio.sleep(0.1)

    assert timeout <= took < timeout + 5
    assert (raised.value.provider, raised.value.model) == ("vllm", "tiny-qwen3")
    assert event_counts(session).statuses == ["error"]
    assert len(server.request_bodies) == sent
    assert_contract(session, None)


async def test_without_a_timeout_a_stream_may_take_any_time() -> None:
    slow = sse_reply(*EVENTS, piece=250, delay_between_pieces=0.05)

    async with ReplayServer(slow) as server, provider_session(server, stream_idle_timeout=5) as (_, provider):
        reply = await provider.complete(ChatRequest(messages=CITIES.messages))

    assert block_contents(reply)[-1] == ("text", ANSWER_TEXT)


@pytest.mark.parametrize("jitter", [True, False], ids=["with jitter", "without"])
async def test_the_retry_delay_doubles_after_each_refusal(jitter: bool) -> None:
    steps: dict[str, Any] = {"min_retry_delay": 0.02, "max_retry_delay": 0.1, "max_retries": 4, "retry_jitter": jitter}

    async with ReplayServer(always=BUSY) as server, provider_session(server, **steps) as (session, provider):
        for _ in range(3):
            with pytest.raises(ProviderUnavailableError):
                await provider.complete(CITIES)

    delays = [data["delay"] for data in session.payloads("provider:retry")]
    planned = [0.02, 0.04, 0.08, 0.1] * 3
    assert delays == (pytest.approx(planned, rel=0.5) if jitter else planned)
    assert (len(set(delays)) > len(set(planned))) == jitter


async def test_a_server_that_drops_connections_gets_every_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was reached each time: the time limit is for servers that cannot be reached."""
    monkeypatch.setattr(_retries, "CONNECT_TIMEOUT", 0.1)
    dropped = Reply(0, {}, b"", delay_before_headers=0.15)

    async with ReplayServer(always=dropped) as server, provider_session(server, max_retries=4) as (session, provider):
        with pytest.raises(NetworkError):
            await provider.complete(CITIES)

    assert len(server.request_bodies) == 5
    assert [data["max_retries"] for data in session.payloads("provider:retry")] == [4] * 4


@both_ways
@pytest.mark.parametrize("max_retries", [0, 5])
@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_wait_beyond_the_longest_delay_is_an_error_at_once(status: int, max_retries: int, stream: bool) -> None:
    answer = refusal(status, retry_after="2.5")

    async with (
        ReplayServer(always=answer) as server,
        provider_session(server, max_retry_delay=2, max_retries=max_retries, use_streaming=stream) as (_, provider),
    ):
        began = time.monotonic()
        with pytest.raises(LLMError) as raised:
            await provider.complete(CITIES)
        took = time.monotonic() - began

    assert (raised.value.retry_after, raised.value.retryable, raised.value.status_code) == (2.5, False, status)
    assert (len(server.request_bodies), took < 2) == (1, True)


async def test_a_starting_server_is_waited_for_as_long_as_the_startup_timeout_allows() -> None:
    starting = refusal(503, retry_after="0.2")
    config: dict[str, Any] = {"max_retry_delay": 0.1, "startup_timeout": 10, "max_retries": 0}

    async with ReplayServer(starting, HEALTHY[True]) as server, provider_session(server, **config) as (session, p):
        reply = await p.complete(CITIES)

    assert block_contents(reply)[-1] == ("text", ANSWER_TEXT)
    assert len(session.payloads("provider:retry")) == 1


async def test_retry_after_is_the_minimum_delay() -> None:
    async with (
        ReplayServer(refusal(503, retry_after="0.4"), HEALTHY[True]) as server,
        provider_session(server) as (session, p),
    ):
        began = time.monotonic()
        await p.complete(CITIES)
        took = time.monotonic() - began

    (retry,) = session.payloads("provider:retry")
    assert (retry["retry_after"], took >= 0.4) == (0.4, True)
    assert retry["delay"] >= 0.4


@both_ways
async def test_a_connection_closed_after_a_500_costs_one_retry(stream: bool) -> None:
    """vLLM 0.32 does this after every 500."""
    dropped = Reply(500, {"content-type": "application/json"}, b'{"error": {"message": "oh"}}', ending="close")

    async with (
        ReplayServer(dropped, HEALTHY[stream]) as server,
        provider_session(server, use_streaming=stream) as (session, provider),
    ):
        reply = await provider.complete(CITIES)

    assert block_contents(reply)[-1] == ("text", ANSWER_TEXT)
    assert event_counts(session) == EventCounts(1, ["ok"], retries=1, aborted=0)


async def test_without_retries_the_error_stays_retryable() -> None:
    async with ReplayServer(always=BUSY) as server, provider_session(server, max_retries=0) as (session, provider):
        with pytest.raises(LLMError) as raised:
            await provider.complete(CITIES)

    assert raised.value.retryable
    assert event_counts(session) == EventCounts(1, ["error"], retries=0, aborted=0)
