"""The HTTP client under the SDK's."""

from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import openai

from .pool import PoolTransport


def http_client(base_url: str, *, direct: bool) -> Any:
    """A client for this server; behind a proxy the SDK's default one, which supports proxies.

    `direct`: ignore the environment's proxies. Redirects are not followed: httpx would send the operator's headers, and
    the conversation, to any host that a redirect names.
    """
    if not direct and proxy_before(base_url) is not None:
        return openai.DefaultAsyncHttpxClient(follow_redirects=False)
    transport = PoolTransport(encrypted=urlsplit(base_url).scheme == "https")
    return openai.DefaultAsyncHttpxClient(transport=transport, trust_env=not direct, follow_redirects=False)


def proxy_before(base_url: str) -> str | None:
    """The environment's proxy for this server."""
    url, proxies = urlsplit(base_url), getproxies()
    return None if proxy_bypass(url.netloc.rpartition("@")[2]) else proxies.get(url.scheme) or proxies.get("all")
