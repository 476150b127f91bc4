"""The HTTP client under the SDK's, which sends a server nothing but what the config states."""

import os
from collections.abc import Mapping
from typing import Any, Final

import openai

from .._constants import NO_API_KEY
from .bodies import limit_body
from .environment import proxy_before, proxy_transport, tls_context
from .pool import PoolTransport, httpx

NO_KEY_HEADER: Final = f"Bearer {NO_API_KEY}"
"""What the SDK sends for a server without a key."""


def http_client(base_url: str, *, direct: bool, query: str = "") -> Any:
    """A client for this server, which adds `query` to every request. `direct`: ignore the environment's proxies.

    Redirects are not followed: httpx would send the operator's headers, and the conversation, to any host that a
    redirect names. Raises `ConfigurationError` for a proxy or certificates that cannot be used.
    """
    proxy = None if direct else proxy_before(base_url)
    tls = tls_context() if any(url.startswith("https:") for url in (base_url, proxy or "")) else None
    limits = openai.DEFAULT_CONNECTION_LIMITS
    inner = PoolTransport(tls, limits) if proxy is None else proxy_transport(proxy, tls, limits)
    return openai.DefaultAsyncHttpxClient(
        transport=_StatedRequests(inner, query.encode()), trust_env=False, follow_redirects=False
    )


def stated_headers(key: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The SDK's default headers: the operator's, and no value that the SDK would take from the environment."""
    # Stated here too, for the SDK lets an Authorization of OPENAI_CUSTOM_HEADERS replace its own.
    left_out = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    return {**left_out, "Authorization": f"Bearer {key}", **headers}


class _StatedRequests(httpx.AsyncBaseTransport):  # type: ignore[misc]  # its base is known at run time only
    """Sends a request as the config states it: it stands below every library that logs or completes one."""

    def __init__(self, inner: Any, query: bytes) -> None:
        self._inner = inner
        self._query = query
        self._closed = False

    async def handle_async_request(self, request: Any) -> Any:
        custom = os.environ.get("OPENAI_CUSTOM_HEADERS", "")
        if not custom and not self._query:  # the common case: a new request would take 90 µs
            response = await self._inner.handle_async_request(_without_foreign_headers(request))
        else:
            response = await self._inner.handle_async_request(self._rebuilt(request, _foreign_headers(custom)))
        if self._closed:  # a pool of httpcore 1 does not close a connection that was being made
            await response.aclose()
            raise httpx.CloseError("the client was closed during the request")
        limit_body(response, request)
        return response

    def _rebuilt(self, request: Any, foreign: set[tuple[str, str]]) -> Any:
        """The request with the query, which the libraries above must not log, and without the foreign headers."""
        headers = httpx.Headers([pair for pair in request.headers.multi_items() if pair not in foreign])
        headers["accept-encoding"] = "identity"
        return httpx.Request(
            request.method,
            request.url.copy_with(query=self._query) if self._query else request.url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )

    async def aclose(self) -> None:
        self._closed = True
        await self._inner.aclose()


def _without_foreign_headers(request: Any) -> Any:
    """The same request, without what the SDK and the HTTP library add by themselves."""
    if request.headers.get("authorization") == NO_KEY_HEADER:
        del request.headers["authorization"]
    request.headers["accept-encoding"] = "identity"
    return request


def _foreign_headers(custom: str) -> set[tuple[str, str]]:
    """Headers that the SDK adds by itself: those of OPENAI_CUSTOM_HEADERS, and the key of a server without one."""
    lines = [line.partition(":") for line in custom.split("\n")]
    return {
        ("authorization", NO_KEY_HEADER),
        *((name.strip().lower(), value.strip()) for name, _, value in lines),
    }
