"""Whatever a server sends, compressed or without end: memory stays bounded, and an error names the limit."""

import asyncio
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import pytest
from amplifier_core.llm_errors import InvalidRequestError, LLMError, ProviderUnavailableError, StreamError

from tests.support.doctor import run_doctor
from tests.support.exchange import block_contents, open_provider
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import ReplayServer, Reply
from tests.support.speech import ANSWER_TEXT
from tests.support.wire import (
    HEALTHY,
    HTML,
    JSON,
    OPENING,
    SSE,
    event,
    item_done,
    message_item,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

GZIP: Final = {"content-encoding": "gzip"}
MB: Final = 1 << 20
MOST_MEMORY: Final = 600 * MB
"""A body of 128 MB or a text of 256 MB, with its pieces; decoded whole, each body would take 2,400 MB."""


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    """The most bytes that were allocated at once during the test."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def bomb(start: bytes, megabytes: int = 1200) -> bytes:
    """The beginning of a gzip body of a thousandth of its size: one compressed block, many times."""
    compressor = zlib.compressobj(wbits=31)
    head = compressor.compress(start) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(b"x" * MB) + compressor.flush(zlib.Z_FULL_FLUSH)
    return head + block * megabytes


BOMBS: Final[dict[str, tuple[Reply, type[LLMError], str]]] = {
    "an unstreamed reply": (Reply(200, JSON | GZIP, bomb(b'{"id": "')), StreamError, "a reply of more than 128 MB"),
    "an event": (Reply(200, SSE | GZIP, bomb(b"event: error\ndata: ")), StreamError, "an event of more than 128 MB"),
    "a comment": (Reply(200, SSE | GZIP, bomb(b": ")), StreamError, "an event of more than 128 MB"),
    "an error in JSON": (Reply(400, JSON | GZIP, bomb(b'{"error": "bad input')), InvalidRequestError, "bad input"),
    "a page": (
        Reply(503, HTML | GZIP, bomb(b"<title>busy</title>")), ProviderUnavailableError, "busy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
async def test_a_small_body_that_decodes_to_a_large_one_is_an_error(name: str, peak: Callable[[], int]) -> None:
    answer, kind, message = BOMBS[name]
    async with (
        ReplayServer(always=answer) as server,
        provider_session(server, max_retries=0, default_model="tiny-qwen3") as (_, provider),
    ):
        with pytest.raises(kind, match=message) as raised:
            await provider.complete(CITIES)

    assert len(answer.body) < 2 * MB
    assert len(str(raised.value)) < 3000
    assert peak() < MOST_MEMORY


@pytest.mark.parametrize("name", BOMBS)
async def test_a_list_of_models_and_a_token_count_are_bounded_too(name: str) -> None:
    answer, kind, message = BOMBS[name]
    async with (
        ReplayServer(models=answer, elsewhere=answer) as server,
        provider_session(server, default_model="tiny-qwen3") as (_, provider),
    ):
        with pytest.raises(kind):
            await provider.list_models()
        budget = await provider.request_budget(CITIES, context_estimate=1)
        findings = await run_doctor(server.base_url)

    assert budget is None
    assert (message in findings["reachable"].message) or kind is StreamError


ENDLESS: Final[dict[str, tuple[bytes, str]]] = {
    "a comment": (b": keep-alive " + b"x" * 65_000 + b"\n", "an event of more than 128 MB"),
    "an event": (b"data: " + b"x" * 65_000 + b"\n", "an event of more than 128 MB"),
    "a text": (text_delta("x" * 65_000), "a streamed reply of more than 256 MB"),
    "items": (item_done(message_item("x" * 65_000), 7), "a streamed reply of more than 256 MB"),
    "tiny items": (
        b"".join(item_done(message_item("x"), 1000 + n) for n in range(1000)), "a streamed reply of more than 256 MB",
    ),
}  # fmt: skip


@asynccontextmanager
async def endless(piece: bytes, *, numbered: bool) -> AsyncIterator[str]:
    """The URL of a server whose every reply repeats the same bytes, until the client has gone away."""
    number = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(OPENING))
        with suppress(ConnectionError):
            while not writer.is_closing():
                number += 1
                writer.write(piece.replace(b'"output_index": ', b'"output_index": %d' % number) if numbered else piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_endless_stream_is_an_error(name: str, peak: Callable[[], int]) -> None:
    piece, message = ENDLESS[name]
    async with (
        endless(piece, numbered=name in ("items", "tiny items")) as url,
        open_provider(url, max_retries=0, default_model="tiny-qwen3") as provider,
    ):
        with pytest.raises(StreamError, match=message) as raised:
            await provider.complete(CITIES)

    assert raised.value.retryable is False
    assert peak() < MOST_MEMORY


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
async def test_an_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    answer = replace(HEALTHY[True], headers=SSE | {"content-encoding": encoding})
    async with ReplayServer(always=answer) as server, provider_session(server, max_retries=0) as (_, provider):
        with pytest.raises(StreamError, match=f"sent a reply in the encoding '{encoding}', which was not asked for"):
            await provider.complete(CITIES)

    assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize("wbits", [31, 15], ids=["gzip", "deflate"])
@pytest.mark.parametrize("piece", [None, 7], ids=["whole", "in pieces"])
async def test_a_compressed_reply_is_read_all_the_same(stream: bool, wbits: int, piece: int | None) -> None:
    compressor = zlib.compressobj(wbits=wbits)
    answer = HEALTHY[stream]
    body = compressor.compress(answer.body) + compressor.flush()
    headers = answer.headers | {"content-encoding": "gzip" if wbits == 31 else "deflate"}
    async with (
        ReplayServer(Reply(200, headers, body, piece=piece)) as server,
        provider_session(server, use_streaming=stream) as (_, provider),
    ):
        response = await provider.complete(CITIES)

    assert block_contents(response)[-1] == ("text", ANSWER_TEXT)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_a_reply_of_a_million_tokens_is_read(stream: bool) -> None:
    text = "é" * 10_000_000
    deltas = [text_delta(text[:1_000_000], output_index=0) for _ in range(10)]
    whole = response(message_item(text))
    answer = (
        sse_reply(*OPENING, *deltas, event("response.completed", response=whole))
        if stream
        else whole_reply(
            json.dumps(whole).encode()  # with every character escaped
        )
    )
    async with ReplayServer(answer) as server, provider_session(server, use_streaming=stream) as (_, provider):
        reply = await provider.complete(CITIES)

    assert block_contents(reply) == [("text", text)]
