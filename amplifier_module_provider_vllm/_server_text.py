"""Sanitize a server's error text: one line, without secrets, control characters and web pages."""

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import cast

import openai

from ._constants import NO_API_KEY
from ._strict_json import Json

WARM_UP_PHRASES = ("starting up", "warming up", "warm-up", "loading model", "model is loading", "currently scaling")

MAX_MESSAGE_LENGTH = 2000

TITLE_SEARCH_LENGTH = 100_000
"""Characters of a web page that are searched for its title."""

PLAIN_HEADERS = re.compile("(accept|connection|content|host|user-agent|x-stainless|openai)", re.IGNORECASE)
"""The SDK's own headers. Every other header comes from the operator, and may hold a key."""

MIN_SECRET_LENGTH = 6
"""Characters; redacting shorter values would hide more words than keys."""


def server_message(error: openai.APIStatusError) -> str:
    """The server's error message: from JSON its message, from a web page its title, never the page."""
    body = cast("Json", error.body)
    if isinstance(body, Mapping):
        nested = body.get("error", body)
        message = nested.get("message", nested.get("detail")) if isinstance(nested, Mapping) else nested
        return reason_line(message if isinstance(message, str) else json.dumps(body, default=str))
    text = error.response.text[:TITLE_SEARCH_LENGTH]
    if is_page(error):
        warm_up = next((phrase for phrase in WARM_UP_PHRASES if phrase in text.lower()), None)
        about = page_title(text) or warm_up or "untitled"
        return sanitize(f"a web page came back instead of a reply, with status {error.status_code}: {about}")
    # For vLLM's 401, {"error": "Unauthorized"}, the SDK's body is only the word.
    return reason_line((body if isinstance(body, str) else text) or f"status {error.status_code} without a body")


def page_title(page: str) -> str | None:
    """The title of a web page, if it has one near its start."""
    # Not one expression over the whole page: its time is quadratic in the number of `<title>`.
    _, *titled = re.split(r"</?title\b", page[:TITLE_SEARCH_LENGTH], maxsplit=2, flags=re.IGNORECASE)
    return sanitize(titled[0].partition(">")[2]) or None if len(titled) == 2 else None


def redact(text: str, error: openai.APIStatusError) -> str:
    """The text without the operator's secrets: gateways repeat the key that they refuse."""
    for secret in sorted(_secrets(error.request.headers), key=len, reverse=True):
        text = text.replace(secret, "[REDACTED]")
    return text


def _secrets(headers: Mapping[str, str]) -> set[str]:
    """The values of the operator's headers, the key among them: whole, and as the parts that a server may repeat."""
    secrets: set[str] = set()
    for name, value in headers.items():
        if name.lower() == "authorization":
            scheme, _, key = value.partition(" ")
            secrets |= {key} | (_basic_credentials(key) if scheme == "Basic" else set())
        elif not PLAIN_HEADERS.match(name) and len(value) >= MIN_SECRET_LENGTH:
            secrets.add(value)
    return secrets - {"", NO_API_KEY}


def _basic_credentials(key: str) -> set[str]:
    try:
        pair = b64decode(key).decode(errors="replace")
    except ValueError:  # not Base64
        return set()
    return {pair, *(part for part in pair.split(":", 1) if len(part) >= MIN_SECRET_LENGTH)}


def is_page(error: openai.APIStatusError) -> bool:
    return "html" in error.response.headers.get("content-type", "") or error.response.text.lstrip()[:1] == "<"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds or as a date (RFC 9110, 10.2.3), preceded by `retry-after-ms` if a gateway sends it."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"[0-9]+", milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))).total_seconds())
    except (TypeError, ValueError):
        return None


def reason_line(text: str) -> str:
    """The sanitized text, or a note that there was none."""
    return sanitize(text) or "the server gave no readable reason"


def sanitize(text: str) -> str:
    """The text, safe for logs and terminals: one line, no control characters, limited length."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return line if len(line) <= MAX_MESSAGE_LENGTH else line[:MAX_MESSAGE_LENGTH] + "…"
