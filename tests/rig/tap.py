"""A loopback socket in front of a server that passes everything on and keeps what the server said."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from io import BytesIO
from socket import socket
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

PIECE = 65536


class Tap:
    """Talk to `base_url` instead of to the server's; `replies` are the server's Responses, in the order they began."""

    def __init__(self, server_url: str) -> None:
        self._server_url = urlsplit(server_url)
        self._heard: list[bytearray] = []
        self._listening: asyncio.Server | None = None
        self._passing: list[asyncio.Future[Any]] = []
        self.base_url = ""

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)
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
    def replies(self) -> list[dict[str, Any]]:
        said = [_last_said(body) for heard in self._heard for body in _bodies(bytes(heard))]
        return [reply for reply in said if reply.get("object") == "response"]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(self._server_url.hostname, self._server_url.port)
        heard = bytearray()
        self._heard.append(heard)
        passing = asyncio.gather(_pass_on(reader, server[1], bytearray()), _pass_on(server[0], writer, heard))
        self._passing.append(passing)
        await passing


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray) -> None:
    with suppress(ConnectionError):
        while piece := await source.read(PIECE):
            kept += piece
            target.write(piece)
            await target.drain()
    target.close()
    with suppress(ConnectionError):
        await target.wait_closed()


def _bodies(heard: bytes) -> Iterator[bytes]:
    """The bodies of the answers that followed each other on one connection."""
    wire = _Wire(heard)
    while wire.tell() < len(heard):
        answer = HTTPResponse(cast("socket", wire))
        answer.begin()
        yield answer.read()


class _Wire(BytesIO):
    """What http.client takes for a socket; it closes one after the first answer, and there are more to read."""

    def makefile(self, _mode: str) -> Self:
        return self

    def close(self) -> None:
        pass


def _last_said(body: bytes) -> dict[str, Any]:
    """A whole answer, or the response that a stream ended with."""
    events = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    said: dict[str, Any] = json.loads(events[-1])["response"] if events else json.loads(body)
    return said
