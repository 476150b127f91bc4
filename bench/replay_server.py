"""A server in a process of its own that sends one recorded reply to every request, as vLLM frames it.

Requests to /v1/chat/completions get a single token. `python -m bench.replay_server TOKENS [PACE]` prints its port and
serves until its standard input ends. With a pace, in tokens per second, every token is sent at its scheduled time,
and its text is the second of sending on the monotonic clock.
"""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

from bench.recorded_stream import STAMP, RecordedStream, chat_token, scale_recording
from tests.support.recordings import load_recording

WRITE = 256 * 1024
"""Bytes handed to the socket at a time at full speed."""

HEAD = "HTTP/1.1 200 {phrase}\r\nserver: uvicorn\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@contextmanager
def start_replay_server(tokens: int, pace: float | None = None) -> Iterator[str]:
    """The base URL of a server with this reply, for as long as the block runs."""
    command = [sys.executable, "-m", "bench.replay_server", str(tokens), *([] if pace is None else [str(pace)])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.stdin.close()


def received_bytes(base_url: str) -> int:
    """The number of bytes in the last request body."""
    with urllib.request.urlopen(f"{base_url}/received") as answer:  # noqa: S310
        return int(answer.read())


class Replay:
    """The reply of every question; the card of a model to every other request."""

    def __init__(self, stream: RecordedStream, pace: float | None) -> None:
        self._stream = stream
        self._pace = pace
        self._whole = b"".join(map(_chunk, stream.events))
        self._chat = b"".join(map(_chunk, chat_token().events))
        self._received = 0
        self._chunks = [(_chunk(event), b".delta\ndata: " in event) for event in stream.events]

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                path, length = await _read_request(reader)
                if path.endswith(("/responses", "/chat/completions")):
                    self._received = length
                    await self._stream_to(writer, is_chat=path.endswith("/chat/completions"))
                else:
                    body = b"%d" % self._received if path.endswith("/received") else _card()
                    writer.write(_head("application/json") + _chunk(body) + LAST_CHUNK)
        writer.close()

    async def _stream_to(self, writer: asyncio.StreamWriter, *, is_chat: bool) -> None:
        writer.write(_head("text/event-stream; charset=utf-8"))
        if is_chat:
            writer.write(self._chat)
        elif self._pace is None:
            await self._send_all(writer)
        else:
            await self._send_paced(writer, self._pace)
        writer.write(LAST_CHUNK)
        await writer.drain()

    async def _send_all(self, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(self._whole), WRITE):
            writer.write(self._whole[start : start + WRITE])
            await writer.drain()

    async def _send_paced(self, writer: asyncio.StreamWriter, pace: float) -> None:
        due = time.monotonic()
        for chunk, is_token in self._chunks:
            if is_token:
                due += 1 / pace
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(chunk.replace(STAMP.encode(), f"{time.monotonic():017.6f} ".encode()) if is_token else chunk)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, int]:
    """The path and body length of the next request, once it is complete."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = int(headers.get("content-length", 0))
    await reader.readexactly(length)
    return start.split(" ")[1], length


def _head(kind: str) -> bytes:
    return HEAD.format(phrase=HTTPStatus.OK.phrase, kind=kind).encode()


def _chunk(event: bytes) -> bytes:
    """One event, one chunk: uvicorn makes one of every event that vLLM yields."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def _card() -> bytes:
    cards = load_recording("tiny-qwen3", "get_v1_models").json
    cards["data"][0]["max_model_len"] = 131_072
    return json.dumps(cards).encode()


async def _serve(stream: RecordedStream, pace: float | None) -> None:
    server = await asyncio.start_server(Replay(stream, pace).converse, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asked_tokens, *asked_pace = sys.argv[1:]
    rate = float(asked_pace[0]) if asked_pace else None
    asyncio.run(_serve(scale_recording(int(asked_tokens), stamped=rate is not None), rate))
