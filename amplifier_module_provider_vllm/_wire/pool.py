"""httpx's own transport, with the chunks of one socket read joined."""

import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Self

import openai

from .chunks import ChunkJoiner

# httpx with openai 2.x, httpx2 with 3.x; each with its own httpcore; the APIs are the same.
_packages = (kind.__module__.partition(".")[0] for kind in openai.DefaultAsyncHttpxClient.__mro__)
httpx: Any = import_module(next(package for package in _packages if package != "openai"))


class PoolTransport(httpx.AsyncBaseTransport):  # type: ignore[misc]  # its base is known at run time only
    """A copy of httpx's own transport, which accepts no network backend; its connection pool does."""

    def __init__(self, tls: ssl.SSLContext | None, limits: Any) -> None:
        self._core = import_module(httpx.__name__.replace("httpx", "httpcore"))
        self._pool = self._core.AsyncConnectionPool(
            ssl_context=tls,
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
        return httpx.Response(
            core_response.status, headers=core_response.headers, stream=body, extensions=core_response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):  # type: ignore[misc]  # its base is known at run time only
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
        raise vars(httpx)[type(error).__name__](str(error)) from error
