"""The HTTP client under the SDK's, and what of a request reaches the server: nothing but what the config states."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import openai

from .._constants import NO_API_KEY
from .pool import PoolTransport, httpx


def http_client(base_url: str, *, direct: bool) -> Any:
    """A client for this server. `direct`: ignore the environment's proxies.

    Redirects are not followed: httpx would send the operator's headers, and the conversation, to any host that a
    redirect names.
    """
    transport = _Edge(_transport(base_url, None if direct else proxy_before(base_url)))
    return openai.DefaultAsyncHttpxClient(transport=transport, trust_env=False, follow_redirects=False)


def stated_headers(key: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The SDK's default headers: the operator's, and no value that the SDK would take from the environment."""
    # Stated here too, for the SDK lets an Authorization of OPENAI_CUSTOM_HEADERS replace its own.
    left_out = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    return {**left_out, "Authorization": f"Bearer {key}", **headers}


def proxy_before(base_url: str) -> str | None:
    """The environment's proxy for this server."""
    url, proxies = urlsplit(base_url), getproxies()
    return None if proxy_bypass(url.netloc.rpartition("@")[2]) else proxies.get(url.scheme) or proxies.get("all")


def _transport(base_url: str, proxy: str | None) -> Any:
    if proxy is None:
        return PoolTransport(encrypted=urlsplit(base_url).scheme == "https")
    url = proxy if "://" in proxy else f"http://{proxy}"
    return httpx.AsyncHTTPTransport(proxy=url, limits=openai.DEFAULT_CONNECTION_LIMITS)


class _Edge(httpx.AsyncBaseTransport):  # type: ignore[misc]  # its base is known at run time only
    """The last to see a request, below every library that logs or completes it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def handle_async_request(self, request: Any) -> Any:
        foreign = _foreign_headers(os.environ.get("OPENAI_CUSTOM_HEADERS", ""))
        headers = [(name, value) for name, value in request.headers.multi_items() if (name, value) not in foreign]
        return await self._inner.handle_async_request(
            httpx.Request(
                request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
            )
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


def _foreign_headers(custom: str) -> set[tuple[str, str]]:
    """Headers that the SDK adds by itself: those of OPENAI_CUSTOM_HEADERS, and the key of a server without one."""
    lines = [line.partition(":") for line in custom.split("\n")]
    return {
        ("authorization", f"Bearer {NO_API_KEY}"),
        *((name.strip().lower(), value.strip()) for name, _, value in lines),
    }
