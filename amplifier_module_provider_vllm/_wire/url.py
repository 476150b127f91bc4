"""A server's URL: made whole, and fit to be shown, logged and signed in with."""

import ipaddress
import re
from base64 import b64encode
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit


def normalized_url(url: str) -> str:
    """The URL with `/v1` where it names only a host. Raises `ValueError` for one that is not http or https."""
    parts = _split(url.strip())
    # A password with # or / in it, unescaped, would make a host of the user.
    ambiguous = parts is not None and (parts.fragment or parts.netloc.endswith(":"))
    if parts is None or ambiguous or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url {display_url(url)!r} is not an http or https URL, such as http://localhost:8000/v1")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") or "/v1"))


def _split(url: str) -> SplitResult | None:
    """None for what is no URL; what the library says of that repeats it, and with it the password."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def display_url(url: str) -> str:
    """The URL as it may be shown, be it one or not: without user, password and query."""
    scheme, separator, rest = url.strip().rpartition("://")
    return scheme + separator + re.split("[?#]", rest.rpartition("@")[2], maxsplit=1)[0]


def without_password(url: str) -> str:
    """What libraries are told: they log the URL as it is."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def auth_header(url: str) -> dict[str, str]:
    """The header that a URL's user and password stand for."""
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
