"""The environment's way to a server: the proxy before it, and the certificates to trust."""

import os
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from amplifier_core.llm_errors import ConfigurationError

from .._constants import PROVIDER
from .pool import httpx
from .url import display_url

PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")


def proxy_before(base_url: str) -> str | None:
    """The environment's proxy for this server."""
    url, proxies = urlsplit(base_url), getproxies()
    return None if proxy_bypass(url.netloc.rpartition("@")[2]) else proxies.get(url.scheme) or proxies.get("all")


def proxy_transport(proxy: str, tls: ssl.SSLContext | None, limits: Any) -> Any:
    """httpx's transport through a proxy. Raises `ConfigurationError` for one that cannot be used."""
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        if parts.scheme not in PROXY_SCHEMES or not parts.hostname or parts.port == 0:
            raise ValueError("no proxy")
        # A context without certificates, for a server without TLS, trusts nobody.
        return httpx.AsyncHTTPTransport(verify=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), proxy=url, limits=limits)
    except (ValueError, httpx.InvalidURL):
        reason = "the URL of a proxy is like http://proxy:3128"
    except ImportError:
        reason = "SOCKS needs the Python package `socksio`"
    place = f"{_variable_of(proxy)} names the proxy {display_url(proxy)!r}"
    raise ConfigurationError(f"{place}, which cannot be used: {reason}", provider=PROVIDER)


def tls_context() -> ssl.SSLContext:
    """The certificates to trust. Raises `ConfigurationError` for a variable that names none."""
    variable = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
    try:
        if variable == "SSL_CERT_DIR" and not Path(os.environ[variable]).is_dir():  # OpenSSL would trust nobody
            raise NotADirectoryError(os.environ[variable])
        context: ssl.SSLContext = httpx.create_ssl_context()
    except OSError as error:
        if variable is None:
            raise
        message = f"the variable {variable} names {os.environ[variable]!r}, which cannot be read as certificates"
        raise ConfigurationError(message, provider=PROVIDER) from error
    return context


def _variable_of(proxy: str) -> str:
    names = [name for name, value in os.environ.items() if name.lower().endswith("_proxy") and value == proxy]
    return f"the variable {names[0]}" if names else "the system"
