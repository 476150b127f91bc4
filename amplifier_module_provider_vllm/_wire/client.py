"""The socket: open a round, read it against a deadline, close it. Failures leave as `LLMError`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import openai

from .._constants import CONNECT_TIMEOUT, NO_API_KEY
from .._errors import UNREADABLE, failures_as_llm_errors, http_library_errors
from .._limits import ModelCard, read_cards
from .http import http_client
from .sse import Frame, SSEFramer
from .url import auth_header, display_url, is_local, without_password

DRAIN_TIMEOUT = 1.0
"""Seconds; vLLM ends the body right behind the terminal event."""


E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Dialect(Generic[E]):
    """How one endpoint is asked, and how its replies are read as events of type E."""

    create: Callable[[openai.AsyncOpenAI], Callable[..., AbstractAsyncContextManager[Any]]]
    """The SDK's method, in the form that leaves the body for us to read."""
    decode: Callable[[Frame], E | None]
    """None for an event that is not read. Raises one of `UNREADABLE`."""
    decode_whole: Callable[[bytes], E]
    is_last: Callable[[E], bool]
    is_progress: Callable[[Frame], bool]


class Response(Protocol):
    """What we use of the HTTP library's response: httpx's with openai 2.x, httpx2's with 3.x."""

    headers: Mapping[str, str]

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...
    async def aread(self) -> bytes: ...


class Transport:
    """One server. The SDK's client is made in the loop that first uses it, and again if another loop does."""

    def __init__(
        self, base_url: str, api_key: str, headers: Mapping[str, str], client: openai.AsyncOpenAI | None
    ) -> None:
        self.url = display_url(base_url)
        self.is_local = is_local(base_url)
        self._base_url = without_password(base_url)
        self._api_key = api_key or NO_API_KEY
        self._headers = {**auth_header(base_url), **headers}
        self._custom_client = (
            None if client is None else client.with_options(max_retries=0, default_headers=self._headers)
        )
        self.times_closed = 0
        """How often it was closed: a call that was under way then is to end, and not to open it again."""
        self._own_client: openai.AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The SDK's client, without its retries: what is retried, and what is said of it, is decided in one place."""
        if self._custom_client is not None:
            return self._custom_client
        loop = asyncio.get_running_loop()
        if self._own_client is None or self._loop is not loop:
            self._loop = loop
            self._own_client = openai.AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key,
                default_headers=self._headers,
                max_retries=0,
                # A proxy from the environment cannot reach what runs on this machine.
                http_client=http_client(self._base_url, direct=self.is_local),
            )
        return self._own_client

    async def batches(
        self, dialect: Dialect[E], body: Mapping[str, Any], headers: Mapping[str, str], idle_timeout: float
    ) -> AsyncGenerator[list[E]]:
        """The events of one round, as many at a time as one read of the socket brought.

        `idle_timeout` bounds, in seconds, every wait for the server, the one for its headers included.
        """
        with failures_as_llm_errors(body["model"], self.url):
            async with (
                self._open(dialect, body, headers, idle_timeout) as response,
                aclosing(_batches(dialect, response, idle_timeout)) as batches,
            ):
                async for batch in batches:
                    yield batch

    @asynccontextmanager
    async def _open(
        self, dialect: Dialect[E], body: Mapping[str, Any], headers: Mapping[str, str], idle_timeout: float
    ) -> AsyncIterator[Response]:
        """The response once its headers are there; a whole reply's body is left for us to read, as a stream's is."""
        timeout = openai.Timeout(idle_timeout, connect=min(CONNECT_TIMEOUT, idle_timeout))
        # The SDK walks its keywords, item by item, through its types: a millisecond a message. It sends this as it is.
        request = dialect.create(self._client_with(headers))(extra_body=body, timeout=timeout)
        async with AsyncExitStack() as closing:
            async with asyncio.timeout(idle_timeout):
                sdk_response = await closing.enter_async_context(request)
            yield sdk_response.http_response

    def _client_with(self, headers: Mapping[str, str]) -> openai.AsyncOpenAI:
        """The client, with these headers too. Not with the request: openai 2 logs a request's own headers."""
        extra = {name: value for name, value in headers.items() if self._headers.get(name) != value}
        return self.client.with_options(default_headers=extra) if extra else self.client

    async def model_cards(self, max_wait: float) -> list[ModelCard]:
        """What the server says of its models. Raises `LLMError` if it does not answer within `max_wait` seconds."""
        with failures_as_llm_errors(None, self.url):
            async with asyncio.timeout(max_wait):
                response = await self.client.models.with_raw_response.list(timeout=max_wait)
                return read_cards(response.content)

    async def get_root(self, path: str, max_wait: float) -> object:
        """The JSON that the server gives at a path beside its `/v1`, such as `/version`. Raises `LLMError`."""
        with failures_as_llm_errors(None, self.url):
            async with asyncio.timeout(max_wait):
                return await self.client.get(self._base_url.removesuffix("/v1") + path, cast_to=object)

    async def get_text(self, path: str, max_wait: float) -> str:
        """What the server gives at a path below its `/v1`, whatever it is. Raises `LLMError`."""
        with failures_as_llm_errors(None, self.url):
            async with asyncio.timeout(max_wait):
                return await self.client.get(path, cast_to=str)

    async def post(self, path: str, body: Mapping[str, object], max_wait: float) -> object:
        """The JSON with which the server answers this body at a path of it. Raises `LLMError`."""
        with failures_as_llm_errors(None, self.url):
            async with asyncio.timeout(max_wait):
                return await self.client.post(self._base_url.removesuffix("/v1") + path, cast_to=object, body=body)

    async def close(self) -> None:
        """Close the client that we made; one that was handed to us belongs to its maker."""
        self.times_closed += 1
        client, self._own_client = self._own_client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()


async def _batches(dialect: Dialect[E], response: Response, idle_timeout: float) -> AsyncGenerator[list[E]]:
    """A stream read by read; a whole reply, which a server may send where it was asked for a stream, as one batch."""
    if "text/event-stream" not in response.headers.get("content-type", "").lower():
        async with asyncio.timeout(idle_timeout):
            yield [dialect.decode_whole(await response.aread())]
        return
    framer, reads = SSEFramer(), response.aiter_bytes()
    remaining, clock = idle_timeout, asyncio.get_running_loop().time
    while True:
        start = clock()
        async with asyncio.timeout(remaining):
            read = await anext(reads, None)
        frames = framer.end() if read is None else framer.feed(read)
        # Comments and pings say that a gateway lives, not that the server works on the reply.
        progress = any(map(dialect.is_progress, (*frames, framer.partial)))
        remaining = idle_timeout if progress else remaining - (clock() - start)
        done = False
        for events in _decode(dialect, frames):
            yield events
            done = bool(events) and dialect.is_last(events[-1])
        if done:
            await _drain(reads)
        if done or read is None:
            return


async def _drain(reads: AsyncIterator[bytes]) -> None:
    """Read what follows the terminal event, so that the connection can be used again; the reply no longer needs it."""
    with suppress(TimeoutError, *http_library_errors()):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for _ in reads:
                pass


def _decode(dialect: Dialect[E], frames: list[Frame]) -> Iterator[list[E]]:
    """The events up to the terminal one: what follows it cannot cost the reply, what precedes garbage comes first."""
    events: list[E] = []
    try:
        for frame in frames:
            event = dialect.decode(frame)
            if event is None:
                continue
            events.append(event)
            if dialect.is_last(event):
                break
    except UNREADABLE:
        yield events
        raise
    yield events
