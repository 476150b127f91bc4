"""A server on a loopback socket that sends recorded bytes in pieces of a given size."""

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Literal, Self

from tests.support.recordings import BrokenStream, Recording, load_recording

Ending = Literal["clean", "close", "cut", "reset", "stall"]

RESET_DELAY = 0.05
"""In seconds. A reset discards bytes that were sent just before it and not yet read."""


@dataclass(frozen=True)
class Reply:
    """One answer to POST /v1/responses.

    `piece`: bytes per write, each a chunk of its own; None sends the body whole. `cut_at`: send only this many bytes.
    `ending`: "clean" ends the body, "close" then drops the connection, "cut" drops it without ending the body, "reset"
    does so with an RST, "stall" only sends `drip` repeatedly. Status 0: no headers, the raw body.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    piece: int | None = None
    cut_at: int | None = None
    ending: Ending = "clean"
    delay_before_headers: float = 0.0
    delay_between_pieces: float = 0.0
    drip: bytes = b""
    delay_between_drips: float = 0.02

    def pieces(self) -> Iterator[bytes]:
        body = self.body[: self.cut_at]
        step = self.piece or max(len(body), 1)
        return (body[start : start + step] for start in range(0, len(body), step))


@dataclass(frozen=True)
class Request:
    """A received request; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def reply(source: Recording | BrokenStream, **shape: Any) -> Reply:
    """A recorded response; `shape` sets the delivery fields of `Reply`."""
    match source:
        case Recording(status=status, headers=headers, body=body):
            return Reply(status, headers, body, **shape)
        case BrokenStream(body=body, headers=headers, ends_properly=proper):
            return Reply(200, headers, body, **({"ending": "clean" if proper else "cut"} | shape))


def json_reply(status: int, body: object, headers: dict[str, str] | None = None, **shape: Any) -> Reply:
    """A response without a recording."""
    all_headers = {"content-type": "application/json"} | (headers or {})
    return Reply(status, all_headers, json.dumps(body).encode(), **shape)


NO_REPLY_LEFT = json_reply(400, {"error": {"message": "The replay has no further reply.", "code": 400}})


Answer = Reply | Recording | Callable[[Request], Reply]
"""What a path answers: the same each time, or what a function makes of the request."""

NOT_FOUND = json_reply(404, {"detail": "Not Found"})
"""FastAPI's answer for a path that the server does not have."""

ENDPOINTS = ("/v1/responses", "/v1/chat/completions", "/v1/completions")


def describe(*paths: str) -> Reply:
    """A server's answer to GET /openapi.json."""
    return json_reply(200, {"openapi": "3.1.0", "paths": {path: {} for path in paths}})


PROMPT_IDS: Final = (4088, 3541, 198, 448, 314, 274, 477, 339, 791, 30, 4089, 198, 4088, 420, 563, 901, 198)
RENDERING: Final = {
    "/tokenize": json_reply(
        200, {"count": len(PROMPT_IDS), "max_model_len": 4096, "tokens": PROMPT_IDS, "token_strs": None}
    ),
    "/detokenize": json_reply(200, {"prompt": "<|im_start|>assistant\n"}),
}
"""A prompt of tiny-qwen3, and the text of its end."""

BACKLOG = 2048
"""The backlog of uvicorn: a thousand clients may connect at once."""


class ReplayServer:
    """Answers a POST to an endpoint from a queue, then with `always`; GET /v1/models with a card; else by `paths`.

    Without `always`, an extra request gets a 400 with that message: it fails the test, and is not retried. Other paths
    answer with `elsewhere`; if that is not given, every prompt is rendered to the same ids. An empty object is refused,
    as vLLM refuses it.
    """

    base_url: str

    def __init__(
        self,
        *replies: Reply | Recording | BrokenStream,
        always: Reply | Recording | BrokenStream | None = None,
        models: Reply | Recording | None = None,
        elsewhere: Reply | None = None,
        paths: Mapping[str, Answer] | None = None,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        card = load_recording("tiny-qwen3", "get_v1_models") if models is None else models
        self.replies = deque(_as_replies(replies))
        self.always = NO_REPLY_LEFT if always is None else next(_as_replies([always]))
        self.models = next(_as_replies([card]))
        self.elsewhere = NOT_FOUND if elsewhere is None else elsewhere
        described = {"/openapi.json": describe(*ENDPOINTS, *RENDERING), **RENDERING} if elsewhere is None else {}
        sources = described | dict(paths or {})
        self.paths = {path: reply(one) if isinstance(one, Recording) else one for path, one in sources.items()}
        self.requests: list[Request] = []
        self._port = port
        self._tls = tls
        self._handlers: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamReader] = set()

    @property
    def request_bodies(self) -> list[dict[str, Any]]:
        """The bodies of all requests to an endpoint so far."""
        return [request.json for request in self.requests if request.path.partition("?")[0] in ENDPOINTS]

    @property
    def connections(self) -> int:
        """The number of connections that the client keeps open."""
        return sum(not reader.at_eof() and reader.exception() is None for reader in self._open)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The server's own tasks that still run."""
        return set(self._handlers)

    async def wait_for_disconnect(self, remaining: int = 0) -> None:
        """Wait until the client keeps at most `remaining` connections open."""
        while self.connections > remaining:  # noqa: ASYNC110 - a StreamReader has no event for a disconnect
            await asyncio.sleep(0.01)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve_connection, "127.0.0.1", self._port, ssl=self._tls, backlog=BACKLOG
        )
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"{'http' if self._tls is None else 'https'}://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._open.add(reader)
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                if not await _write(self._answer(request), reader, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            self._handlers.discard(task)
            self._open.discard(reader)
            writer.close()

    def _answer(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        match request.method:
            case _ if path in self.paths:
                found = self.paths[path]
                return found if isinstance(found, Reply) else found(request)
            case "GET" if path == "/v1/models":
                return self.models
            case "POST" if path in ENDPOINTS and request.body == b"{}":
                return reply(load_recording("tiny-qwen3", "empty_body"))
            case "POST" if path in ENDPOINTS:
                return self.replies.popleft() if self.replies else self.always
            case _:
                return self.elsewhere


def _as_replies(sources: Iterable[Reply | Recording | BrokenStream]) -> Iterator[Reply]:
    return (source if isinstance(source, Reply) else reply(source) for source in sources)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request on the connection; None when the client closed it."""
    try:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except asyncio.IncompleteReadError:
        return None
    method, path, _version = start.split(" ")
    return Request(method, path, headers, body)


async def _write(answer: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection can carry another request."""
    if answer.delay_before_headers:
        await _pause(answer.delay_before_headers, reader)
    if answer.status == 0:
        writer.write(answer.body)
        return False
    writer.write(_head(answer))
    for piece in answer.pieces():
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        await asyncio.sleep(answer.delay_between_pieces)
    match answer.ending:
        case "clean" | "close":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        case "stall":
            await _drip(answer, reader, writer)
        case "reset":
            await _pause(RESET_DELAY, reader)
            reset: socket.socket = writer.get_extra_info("socket")
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case "cut":
            pass
    return answer.ending == "clean"


async def _drip(answer: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while answer.drip:
        writer.write(b"%x\r\n%b\r\n" % (len(answer.drip), answer.drip))
        await writer.drain()
        await asyncio.sleep(answer.delay_between_drips)
    await _pause(None, reader)


async def _pause(seconds: float | None, reader: asyncio.StreamReader) -> None:
    """Wait without sending, forever for None; raises `ConnectionError` when the client disconnects."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            if await reader.read(1) == b"":
                raise ConnectionResetError


def _head(answer: Reply) -> bytes:
    """The response head. Every body is chunked, as in a stream of uvicorn."""
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
        "transfer-encoding: chunked",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
