"""Open a round, read it with an idle timeout, and close it. Failures are raised as `LLMError`."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    suppress,
)
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
import openai

from .._constants import CONNECT_TIMEOUT, NO_API_KEY
from .._endpoint import E, Endpoint
from .._errors import UNREADABLE, failures_as_llm_errors, http_library_errors
from .._limits import ModelCard, read_cards
from .._secrets import Secrets, header_secrets, loggable_body, tool_secrets, url_secrets
from .._strict_json import Json
from .http import http_client, stated_headers
from .sse import Frame, SSEFramer
from .url import auth_header, bare_url, display_url, is_local

DRAIN_TIMEOUT = 1.0
"""Seconds; vLLM ends the body right after the terminal event."""

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

SDK_HEADERS: Final = re.compile("(accept|content|user-agent|x-stainless)", re.IGNORECASE)


class Response(Protocol):
    """The members that we use of the HTTP library's response: httpx's with openai 2.x, httpx2's with 3.x."""

    headers: Mapping[str, str]

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...
    async def aread(self) -> bytes: ...


class Transport:
    """The connections to one server. The SDK's client belongs to an event loop; another loop gets a new one."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        headers: Mapping[str, str],
        client: openai.AsyncOpenAI | None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """`tools`: those that the config states, whose headers a server may repeat."""
        self.url = display_url(base_url)
        self._fixed_secrets = [*url_secrets(base_url), *tool_secrets(tools)]
        self.is_local = is_local(base_url)
        self._base_url = bare_url(base_url)
        self._query = urlsplit(base_url).query
        self._api_key = api_key or NO_API_KEY
        self._headers = {**auth_header(base_url), **_canonical(headers)}
        self._custom_client = (
            None if client is None else client.with_options(max_retries=0, default_headers=self._headers)
        )
        self.times_closed = 0
        """The number of `close()` calls: a call that was running during one must end, and not reopen the connection."""
        self._own_client: openai.AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The SDK's client, with its own retries off: `_retries` decides them and emits their events."""
        if self._custom_client is not None:
            return self._custom_client
        loop = asyncio.get_running_loop()
        if self._own_client is None or self._loop is not loop:
            self._loop = loop
            self._own_client = openai.AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key,
                default_headers=stated_headers(self._api_key, self._headers),
                max_retries=0,
                # A proxy from the environment cannot reach a server on this machine.
                http_client=http_client(self._base_url, direct=self.is_local, query=self._query),
            )
        return self._own_client

    def secrets(self, headers: Mapping[str, str] | None = None) -> Secrets:
        """The key, the values of the operator's and of a call's headers, and those of the URL and of hosted tools."""
        client = self._custom_client
        custom = {} if client is None else {"Authorization": f"Bearer {client.api_key}", **_plain_texts(client)}
        values = ({"Authorization": f"Bearer {self._api_key}"}, custom, self._headers, headers or {})
        return Secrets([*self._fixed_secrets, *(secret for one in values for secret in header_secrets(one))])

    def failures(
        self, model: str | None = None, headers: Mapping[str, str] | None = None, waited: str = ""
    ) -> AbstractContextManager[None]:
        """Failures as `LLMError`, without secrets."""
        return failures_as_llm_errors(model, self.url, waited, lambda: self.secrets(headers))

    async def batches(
        self, endpoint: Endpoint[E], body: Mapping[str, Any], headers: Mapping[str, str], idle_timeout: float
    ) -> AsyncGenerator[list[E]]:
        """The events of one round, one batch per read of the socket.

        `idle_timeout` bounds, in seconds, every wait for the server, including that for its headers.
        """
        waited = f"nothing within {idle_timeout:g} s (`stream_idle_timeout`)"
        with self.failures(body["model"], headers, waited):
            async with (
                self._open(endpoint, body, headers, idle_timeout) as response,
                aclosing(_batches(endpoint, response, idle_timeout)) as batches,
            ):
                async for batch in batches:
                    yield batch

    @asynccontextmanager
    async def _open(
        self, endpoint: Endpoint[E], body: Mapping[str, Any], headers: Mapping[str, str], idle_timeout: float
    ) -> AsyncGenerator[Response]:
        """The response after its headers; the body of an unstreamed reply stays unread too."""
        timeout = openai.Timeout(idle_timeout, connect=min(CONNECT_TIMEOUT, idle_timeout))
        # The SDK checks keyword arguments against its types, at 1 ms a message; it sends `extra_body` unchanged.
        request = endpoint.create(self._client_with(headers))(extra_body=loggable_body(body), timeout=timeout)
        async with AsyncExitStack() as closing:
            async with asyncio.timeout(idle_timeout):
                sdk_response = await closing.enter_async_context(request)
            yield sdk_response.http_response

    def _client_with(self, headers: Mapping[str, str]) -> openai.AsyncOpenAI:
        """The client with additional headers. They are not passed with the request, whose headers openai 2 logs."""
        extra = {name: value for name, value in _canonical(headers).items() if self._headers.get(name) != value}
        return self.client.with_options(default_headers=extra) if extra else self.client

    async def model_cards(self, max_wait: float) -> list[ModelCard]:
        """The server's models. Raises `LLMError` if it does not answer within `max_wait` seconds."""
        with self.failures():
            async with asyncio.timeout(max_wait):
                response = await self.client.models.with_raw_response.list(timeout=max_wait)
                return read_cards(response.content)

    async def get_root(self, path: str, max_wait: float) -> Json:
        """The JSON at a path beside the server's `/v1`, such as `/version`. Raises `LLMError`."""
        with self.failures():
            async with asyncio.timeout(max_wait):
                answer = await self.client.get(self._url_of(path), cast_to=str)
                described: Json = msgspec.json.decode(answer)
                return described

    async def get_text(self, path: str, max_wait: float) -> str:
        """The raw text at a path below the server's `/v1`. Raises `LLMError`."""
        with self.failures():
            async with asyncio.timeout(max_wait):
                return await self.client.get(path, cast_to=str)

    async def post(
        self,
        path: str,
        body: Mapping[str, object],
        max_wait: float,
        *,
        model: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Json:
        """The JSON answer to a body posted to a path of vLLM, such as `/tokenize` or `/v1/messages/count_tokens`.

        `model` and `headers` are those of the call that it is for, if it is for one. Raises `LLMError`.
        """
        with self.failures(model, headers):
            async with asyncio.timeout(max_wait):
                client = self._client_with(headers)
                answer: Json = msgspec.json.decode(await client.post(self._url_of(path), cast_to=str, body=body))
                return answer

    def _url_of(self, path: str) -> str:
        """The URL of a path of vLLM. `base_url` stands for its `/v1`, whatever a gateway calls that."""
        below = path.removeprefix("/v1/")
        return f"{self._base_url}/{below}" if below != path else self._base_url.removesuffix("/v1") + path

    async def close(self) -> None:
        """Close our own client; a custom one belongs to the caller."""
        self.times_closed += 1
        client, self._own_client = self._own_client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()


def _plain_texts(client: openai.AsyncOpenAI) -> dict[str, str]:
    """The headers of a caller's client, without the SDK's own."""
    headers: Mapping[str, object] = client.default_headers
    return {name: value for name, value in headers.items() if isinstance(value, str) and not SDK_HEADERS.match(name)}


def _canonical(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers as the SDK spells them, so that a name replaces the same name in its dictionary."""
    return {name.title(): value for name, value in headers.items()}


async def _batches(endpoint: Endpoint[E], response: Response, idle_timeout: float) -> AsyncGenerator[list[E]]:
    """The batches of a stream; an unstreamed reply, which a server may send instead, is one batch."""
    if "text/event-stream" not in response.headers.get("content-type", "").lower():
        async with asyncio.timeout(idle_timeout):
            body = await response.aread()
        yield [endpoint.decode_whole(body)]
        return
    framer, reads = SSEFramer(), response.aiter_bytes()
    remaining, clock = idle_timeout, asyncio.get_running_loop().time
    while True:
        start = clock()
        async with asyncio.timeout(remaining):
            read = await anext(reads, None)
        frames = framer.end() if read is None else framer.feed(read)
        # Comments and pings show that a gateway is alive, not that the server works on the reply.
        progress = any(map(endpoint.is_progress, frames)) or endpoint.is_progress(framer.partial)
        remaining = idle_timeout if progress else remaining - (clock() - start)
        done = False
        for events in _decode(endpoint, frames):
            yield events
            done = bool(events) and endpoint.is_last(events[-1])
        if done:
            await _drain(reads)
        if done or read is None:
            return


async def _drain(reads: AsyncIterator[bytes]) -> None:
    """Read the rest of the body after the terminal event, so that the connection can be reused."""
    with suppress(TimeoutError, *http_library_errors()):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for _ in reads:
                pass


def _decode(endpoint: Endpoint[E], frames: list[Frame]) -> Iterator[list[E]]:
    """The events up to the terminal one: later garbage must not fail the reply; events before garbage come first."""
    events: list[E] = []
    decode, is_last = endpoint.decode, endpoint.is_last
    try:
        for frame in frames:
            event = decode(frame)
            if event is None:
                continue
            events.append(event)
            if is_last(event):
                break
    except UNREADABLE:
        yield events
        raise
    yield events
