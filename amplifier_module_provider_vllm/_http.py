"""The HTTP client under the SDK's: its default one, but for what one read of the socket brings staying together."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import openai

from ._chunks import ChunkJoiner

# httpx with openai 2.x, httpx2 with 3.x; each has its own httpcore.
_http: Any = import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])


def http_client(base_url: str) -> Any | None:
    """A client for this server; None where its requests go through a proxy, which the SDK's own client knows to find."""
    url = urlsplit(base_url)
    if not getproxies().keys().isdisjoint((url.scheme, "all")) and not proxy_bypass(url.hostname or ""):
        return None
    return openai.DefaultAsyncHttpxClient(transport=_Transport(encrypted=url.scheme == "https"))


class _Transport(_http.AsyncBaseTransport):  # type: ignore[misc]  # its base is known at run time only
    """What httpx's own transport does, over a pool whose connections join chunks; httpx cannot be handed such a pool."""

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
        names = self._core.__all__ ...

    async def handle_async_request(self, request: Any) -> Any:
        ...
