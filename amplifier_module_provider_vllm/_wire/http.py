"""The HTTP client under the SDK's: its default one, with the chunks of one socket read joined."""

from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import openai

from .chunks import ChunkJoiner

# httpx with openai 2.x, httpx2 with 3.x; each with its own httpcore; the APIs are the same.
_packages = (kind.__module__.partition(".")[0] for kind in openai.DefaultAsyncHttpxClient.__mro__)
_http: Any = import_module(next(package for package in _packages if package != "openai"))


def http_client(base_url: str, *, direct: bool) -> Any:
    """A client for this server; behind a proxy the SDK's default one, which supports proxies.

    `direct`: ignore the environment's proxies. Redirects are not followed: httpx would send the operator's headers, and
    the conversation, to any host that a redirect names.
    """
    if not direct and proxy_before(base_url) is not None:
        return openai.DefaultAsyncHttpxClient(follow_redirects=False)
    transport = _Transport(encrypted=urlsplit(base_url).scheme == "https")
    return openai.DefaultAsyncHttpxClient(transport=transport, trust_env=not direct, follow_redirects=False)


def proxy_before(base_url: str) -> str | None:
    """The environment's proxy for this server."""
    url, proxies = urlsplit(base_url), getproxies()
    return None if proxy_bypass(url.netloc.rpartition("@")[2]) else proxies.get(url.scheme) or proxies.get("all")


class _Transport(_http.AsyncBaseTransport):  # type: ignore[misc]  # its base is known at run time only
    """A copy of httpx's own transport, which accepts no network backend; its connection pool does."""

    def __init__(self, *, encrypted: bool) -> None:
        self._core = import_module(_http.__name__.replace("httpx", "httpcore"))
        limits = openai.DEFAULT_CONNECTION_LIMITS
        self._pool = self._core.AsyncConnectionPool(
            ssl_context=_http.create_ssl_context() if encrypted else None,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Backend(self._core.AnyIOBackend()),
        )

    async def handle_async_request(self, request: Any) -> Any:
        url = self._core.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        core_request = self._core.Request(
            request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
        )
        with _as_httpx_errors(self._core):
            core_response = await self._pool.handle_async_request(core_request)
        body = _Body(core_response.stream, self._core)
        return _http.Response(
            core_response.status, headers=core_response.headers, stream=body, extensions=core_response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(_http.AsyncByteStream):  # type: ignore[misc]  # its base is known at run time only
    def __init__(self, parts: Any, core: Any) -> None:
        self._parts = parts
        self._core = core

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors(self._core):
            async for part in self._parts:
                yield part

    async def aclose(self) -> None:
        await self._parts.aclose()


class _Backend:
    """Opens connections that join the chunks of their responses."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> "_Connection":
        return _Connection(await self._backend.connect_tcp(*args, **kwargs))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Connection:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._joiner = ChunkJoiner()

    async def read(self, *args: Any, **kwargs: Any) -> bytes:
        while True:
            read: bytes = await self._stream.read(*args, **kwargs)
            joined = self._joiner.feed(read)
            if joined or not read:  # an empty read means the end of the stream
                return joined

    async def write(self, *args: Any, **kwargs: Any) -> None:
        self._joiner = ChunkJoiner()  # the next read belongs to a new response
        await self._stream.write(*args, **kwargs)

    async def start_tls(self, *args: Any, **kwargs: Any) -> Self:
        return type(self)(await self._stream.start_tls(*args, **kwargs))

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@contextmanager
def _as_httpx_errors(core: Any) -> Generator[None]:
    """Convert httpcore's errors to httpx's of the same name."""
    try:
        yield
    except (core.TimeoutException, core.NetworkError, core.ProtocolError, core.UnsupportedProtocol) as error:
        raise vars(_http)[type(error).__name__](str(error)) from error
