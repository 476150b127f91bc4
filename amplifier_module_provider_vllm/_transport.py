"""The socket: open a round, read it against a deadline, close it. Failures leave as `LLMError`."""

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import openai

from ._constants import CONNECT_TIMEOUT, NO_API_KEY
from ._errors import failures_as_llm_errors, http_library_errors
from ._limits import ModelCard, read_cards
from ._responses.events import Ended, Event, decode_event, decode_reply
from ._sse import Frame, SSEFramer

DRAIN_TIMEOUT = 1.0
"""Seconds; vLLM ends the body right behind the terminal event."""


class Response(Protocol):
    """What we use of the HTTP library's response: httpx's with openai 2.x, httpx2's with 3.x."""

    headers: Mapping[str, str]

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...
    async def aread(self) -> bytes: ...
    async def aclose(self) -> None: ...


def normalized_url(url: str) -> str:
    """The URL with `/v1` where it names only a host. Raises `ValueError` for one that is not http or https."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url {shown_url(url)!r} is not an http or https URL, such as http://localhost:8000/v1")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") or "/v1"))


def shown_url(url: str) -> str:
    """The URL as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_local(url: str) -> bool:
    """Whether the URL names this machine: localhost, 127.0.0.0/8, ::1 or 0.0.0.0."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


class Transport:
    """One server. The SDK's client is made in the loop that first uses it, and again if another loop does."""

    def __init__(
        self, base_url: str, api_key: str, headers: Mapping[str, str], client: openai.AsyncOpenAI | None
    ) -> None:
        self.url = shown_url(base_url)
        self.is_local = is_local(base_url)
        self._base_url = base_url
        self._api_key = api_key or NO_API_KEY
        self._headers = dict(headers)
        self._given = None if client is None else client.with_options(max_retries=0)
        self._made: openai.AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The SDK's client, without its retries: what is retried, and what is said of it, is decided in one place."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if self._made is None or self._loop is not loop:
            self._loop = loop
            self._made = openai.AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key,
                default_headers=self._headers,
                max_retries=0,
                # A proxy from the environment cannot reach what runs on this machine.
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False) if self.is_local else None,
            )
        return self._made

    async def batches(self, params: Mapping[str, Any], idle_timeout: float) -> AsyncGenerator[list[Event]]:
        """The events of one round, as many at a time as one read of the socket brought.

        `idle_timeout` bounds, in seconds, every wait for the server, the one for its headers included.
        """
        with failures_as_llm_errors(params["model"], self.url):
            response = await self._opened(params, idle_timeout)
            async with aclosing(response), aclosing(_batches(response, idle_timeout)) as batches:
                async for batch in batches:
                    yield batch

    async def _opened(self, params: Mapping[str, Any], idle_timeout: float) -> Response:
        timeout = openai.Timeout(idle_timeout, connect=min(CONNECT_TIMEOUT, idle_timeout))
        async with asyncio.timeout(idle_timeout):
            opened = await self.client.responses.with_raw_response.create(**params, timeout=timeout)
        response: Response = opened.http_response
        return response

    async def model_cards(self, patience: float) -> list[ModelCard]:
        """What the server says of its models. Raises `LLMError` if it does not answer within `patience` seconds."""
        with failures_as_llm_errors(None, self.url):
            async with asyncio.timeout(patience):
                answer = await self.client.models.with_raw_response.list(timeout=patience)
                return read_cards(answer.content)

    async def beside(self, path: str, patience: float) -> object:
        """The JSON that the server gives at a path beside its `/v1`, such as `/version`. Raises `LLMError`."""
        with failures_as_llm_errors(None, self.url):
            async with asyncio.timeout(patience):
                return await self.client.get(self._base_url.removesuffix("/v1") + path, cast_to=object)

    async def close(self) -> None:
        """Close the client that we made; one that was handed to us belongs to its maker."""
        made, self._made = self._made, None
        if made is not None and self._loop is asyncio.get_running_loop():
            await made.close()


async def _batches(response: Response, idle_timeout: float) -> AsyncGenerator[list[Event]]:
    """A stream read by read; a whole reply, which a server may send where it was asked for a stream, as one batch."""
    if "text/event-stream" not in response.headers.get("content-type", "").lower():
        async with asyncio.timeout(idle_timeout):
            yield [decode_reply(await response.aread())]
        return
    framer, reads = SSEFramer(), response.aiter_bytes()
    while True:
        async with asyncio.timeout(idle_timeout):
            read = await anext(reads, None)
        events = _decoded(framer.end() if read is None else framer.feed(read))
        yield events
        if read is None:
            return
        if any(isinstance(event, Ended) for event in events):
            await _drain(reads)
            return


async def _drain(reads: AsyncIterator[bytes]) -> None:
    """Read what follows the terminal event, so that the connection can be used again; the reply no longer needs it."""
    with suppress(TimeoutError, *http_library_errors()):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for _ in reads:
                pass


def _decoded(frames: list[Frame]) -> list[Event]:
    return [event for frame in frames if (event := decode_event(frame.event, frame.data)) is not None]
