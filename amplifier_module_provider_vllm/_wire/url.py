"""Normalize and compare servers' URLs, and derive from one the URL to display, the URL to log, and the auth header."""

import ipaddress
import re
from base64 import b64encode
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

PORTS: Final = {"http": 80, "https": 443}


def normalized_url(url: str) -> str:
    """The URL, with `/v1` if it has no path. Raises `ValueError` if it is not an http or https URL."""
    parts = _split(url.strip())
    # An unescaped # or / in the password would make the user the host.
    ambiguous = parts is not None and (parts.fragment or parts.netloc.endswith(":"))
    if parts is None or ambiguous or parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"base_url {display_url(url)!r} is not an http or https URL, such as http://localhost:8000/v1")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") or "/v1"))


def same_server(one: str, other: str) -> bool:
    """Whether two spellings name one server: scheme, host, port and the path before `/v1` are the same."""
    server = _server(one)
    return server is not None and server == _server(other)


def _server(url: str) -> tuple[str, str, int, str] | None:
    parts = _split(url.strip())
    if parts is None or parts.scheme not in PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme], parts.path.rstrip("/").removesuffix("/v1")


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None if it is invalid, as the library's error would repeat the URL and its password."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def display_url(url: str) -> str:
    """The URL without user, password and query, for display; works for invalid URLs too."""
    scheme, separator, rest = url.strip().rpartition("://")
    return scheme + separator + re.split("[?#]", rest.rpartition("@")[2], maxsplit=1)[0]


def bare_url(url: str) -> str:
    """The URL without user, password and query, for libraries, which log it unchanged."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def auth_header(url: str) -> dict[str, str]:
    """The Authorization header for a URL's user and password."""
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def is_local(url: str) -> bool:
    """Whether the URL names this machine: localhost, 127.0.0.0/8, ::1 or 0.0.0.0."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
