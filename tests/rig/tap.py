"""A loopback proxy in front of a server that records requests and replies."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from io import BytesIO
from socket import socket
from threading import Thread
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

from tests.rig.replies import PATHS, REPLIES, final_reply

PIECE = 65536
CONTENT_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


class Tap:
    """Clients connect to `base_url` instead of the server's. Only what they ask at these endpoints counts."""

    def __init__(self, server_url: str, *endpoints: str) -> None:
        self._server_url = urlsplit(server_url)
        self._paths = tuple(PATHS[endpoint] for endpoint in endpoints or ("responses",))
        self._connections: list[tuple[bytearray, bytearray]] = []
        self._listening: asyncio.Server | None = None
        self._passing: list[asyncio.Future[Any]] = []
        self.base_url = ""

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = self._listening.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}{self._server_url.path}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.close()
            await self._listening.wait_closed()
        await asyncio.gather(*self._passing)

    @property
    def exchanges(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Each request that got a reply, and that reply; in the order of the connections."""
        exchanges = [
            (json.loads(request), final_reply(body))
            for sent, received in self._connections
            for (line, request), body in zip(_requests(bytes(sent)), _bodies(bytes(received)), strict=False)
            if line.startswith(b"POST ") and line.split()[1].decode().endswith(self._paths)
        ]
        return [(request, reply) for request, reply in exchanges if reply.get("object") in REPLIES]

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [reply for _, reply in self.exchanges]

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(self._server_url.hostname, self._server_url.port)
        sent, received = bytearray(), bytearray()
        self._connections.append((sent, received))
        passing = asyncio.gather(_pass_on(reader, server[1], sent), _pass_on(server[0], writer, received))
        self._passing.append(passing)
        await passing


@contextmanager
def open_tap(server_url: str, *endpoints: str) -> Iterator[Tap]:
    """A tap for code that runs an event loop of its own, such as a command."""
    loop, tap = asyncio.new_event_loop(), Tap(server_url, *endpoints)
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(tap.__aenter__(), loop).result()
        yield tap
        asyncio.run_coroutine_threadsafe(tap.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, copy: bytearray) -> None:
    with suppress(ConnectionError):
        while piece := await source.read(PIECE):
            copy += piece
            target.write(piece)
            await target.drain()
    target.close()
    with suppress(ConnectionError):
        await target.wait_closed()


def _requests(sent: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The first line and the body of each request on one connection."""
    while sent:
        head, _, rest = sent.partition(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(head)
        size = 0 if length is None else int(length.group(1))
        yield head.partition(b"\r\n")[0], rest[:size]
        sent = rest[size:]


def _bodies(received: bytes) -> Iterator[bytes]:
    """The bodies of the consecutive responses on one connection."""
    wire = _Wire(received)
    while wire.tell() < len(received):
        answer = HTTPResponse(cast("socket", wire))
        answer.begin()
        yield answer.read()


class _Wire(BytesIO):
    """A fake socket for http.client, which would close a real one after the first response."""

    def makefile(self, _mode: str) -> Self:
        return self

    def close(self) -> None:
        pass
