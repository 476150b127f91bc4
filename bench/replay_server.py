"""A server in a process of its own that sends one recorded reply to every request, as vLLM frames it.

`python -m bench.replay_server TOKENS [PACE]` prints its port and serves until its standard input ends. With a pace, in
tokens per second, every token of /v1/responses is sent at its scheduled time, and its text is the second of sending on
the monotonic clock.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus

from bench.recorded_chunks import DONE, QWEN, scale_chat, scale_completions, usage_event, with_prompt
from bench.recorded_stream import STAMP, RecordedStream, scale_recording
from tests.support.recordings import load_recording

WRITE = 256 * 1024
"""Bytes handed to the socket at a time at full speed."""

HEAD = "HTTP/1.1 200 {phrase}\r\nserver: uvicorn\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

WINDOW = 1_048_576
BYTES_PER_TOKEN = 4
"""Of a conversation as JSON."""

MODEL_OF = re.compile(rb'"model": ?"([^"]*)"')
ASKS_FOR_IDS = re.compile(rb'"return_token_ids": ?true')
ASKS_FOR_LOGPROBS = re.compile(rb'"logprobs": ?true')
ASKS_FOR_USAGE = re.compile(rb'"include_usage": ?true')
UNSTREAMED = re.compile(rb'"stream": ?false')


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
    """The reply of every question; token ids for a conversation; the card of a model to every other request."""

    def __init__(self, tokens: int, pace: float | None) -> None:
        self._tokens = tokens
        self._pace = pace
        stream = scale_recording(tokens, stamped=pace is not None)
        self._whole = _body(stream.events)
        self._received = 0
        self._chunks = [(_chunk(event), b".delta\ndata: " in event) for event in stream.events]

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                path, body = await _read_request(reader)
                if path.endswith(("/responses", "/completions")):
                    self._received = len(body)
                if path.endswith("/responses"):
                    await self._stream_to(writer, self._whole if self._pace is None else None)
                elif path.endswith("/completions") and not UNSTREAMED.search(body):
                    await self._stream_to(writer, self._chunked(path, body))
                else:
                    writer.write(_head("application/json") + _chunk(self._answer(path, body)) + LAST_CHUNK)
        writer.close()

    def _answer(self, path: str, body: bytes) -> bytes:
        match path.rpartition("/")[2]:
            case "received":
                return b"%d" % self._received
            case "tokenize":
                return _ids(len(body) // BYTES_PER_TOKEN)
            case "detokenize":
                return b'{"prompt": "<|im_start|>assistant\\n"}'
            case "completions":
                reply = load_recording("chat/tiny-gpt-oss", "via_render_by_chat_1_token")
                return with_prompt(reply.body, len(body) // BYTES_PER_TOKEN)
            case _:
                return _card()

    def _chunked(self, path: str, body: bytes) -> bytes:
        """The reply in chunks. The first says what the prompt was, if it is asked; so does the last with the usage."""
        model = MODEL_OF.search(body)
        name = QWEN if model is None else model[1].decode()
        if path.endswith("/chat/completions"):
            ids, logprobs = ASKS_FOR_IDS.search(body) is not None, ASKS_FOR_LOGPROBS.search(body) is not None
            stream = scale_chat(self._tokens, name, ids=ids, logprobs=logprobs)
        else:
            stream = scale_completions(self._tokens, name)
        first, rest, usage = _parts(stream)
        prompt = with_prompt(first, len(body) // BYTES_PER_TOKEN)
        return _chunk(prompt) + rest + (usage if ASKS_FOR_USAGE.search(body) else b"") + _chunk(DONE)

    async def _stream_to(self, writer: asyncio.StreamWriter, whole: bytes | None) -> None:
        writer.write(_head("text/event-stream; charset=utf-8"))
        if whole is not None:
            await _send_all(writer, whole)
        elif self._pace is not None:
            await self._send_paced(writer, self._pace)
        writer.write(LAST_CHUNK)
        await writer.drain()

    async def _send_paced(self, writer: asyncio.StreamWriter, pace: float) -> None:
        due = time.monotonic()
        for chunk, is_token in self._chunks:
            if is_token:
                due += 1 / pace
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(chunk.replace(STAMP.encode(), f"{time.monotonic():017.6f} ".encode()) if is_token else chunk)


async def _send_all(writer: asyncio.StreamWriter, body: bytes) -> None:
    for start in range(0, len(body), WRITE):
        writer.write(body[start : start + WRITE])
        await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The path and body of the next request, once it is complete."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return start.split(" ")[1], body


def _head(kind: str) -> bytes:
    return HEAD.format(phrase=HTTPStatus.OK.phrase, kind=kind).encode()


def _chunk(event: bytes) -> bytes:
    """One event, one chunk: uvicorn makes one of every event that vLLM yields."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def _body(events: Iterable[bytes]) -> bytes:
    return b"".join(map(_chunk, events))


def _card() -> bytes:
    cards = load_recording("tiny-qwen3", "get_v1_models").json
    cards["data"][0]["max_model_len"] = WINDOW
    return json.dumps(cards).encode()


@cache
def _parts(stream: RecordedStream) -> tuple[bytes, bytes, bytes]:
    """The first chunk of a stream, the others in HTTP chunks, and the one with the usage."""
    first, *rest, _done = stream.events
    return first, _body(rest), _chunk(usage_event(stream))


@cache
def _ids(count: int) -> bytes:
    return json.dumps({"count": count, "max_model_len": WINDOW, "tokens": [*range(100, 100 + count)]}).encode()


async def _serve(tokens: int, pace: float | None) -> None:
    server = await asyncio.start_server(Replay(tokens, pace).converse, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asked_tokens, *asked_pace = sys.argv[1:]
    asyncio.run(_serve(int(asked_tokens), float(asked_pace[0]) if asked_pace else None))
