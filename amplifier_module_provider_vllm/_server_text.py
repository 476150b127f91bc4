"""Read an error reply: its reason in one line, whether the server is starting, and how long to wait."""

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

from ._failure import Failure, read_failure
from ._strict_json import read_json

WARM_UP_PHRASES = (
    "starting up", "service is starting", "server is starting", "is starting", "warming up", "warm-up",
    "loading model", "model is loading", "currently loading", "initializing", "initialising",
    "waiting for service to respond", "waiting for service", "waking up", "spinning up", "scaling up",
    "currently scaling",
)  # fmt: skip
"""What the pages of hosted gateways say while the server behind them starts; the longer of two phrases first."""

TITLE_SEARCH_LENGTH = 100_000
"""Characters of a web page that are searched for its title."""


def server_failure(error: openai.APIStatusError) -> Failure:
    """The error in a reply: in JSON its message, of a web page its title and whether it speaks of a start."""
    text = error.response.text
    if is_page(error):
        title, warm_up = page_title(text) or "", _warm_up_phrase(text) or ""
        about = ": ".join(filter(None, (title, warm_up if warm_up not in title.lower() else "")))
        reason = f"a web page came back instead of a reply, with status {error.status_code}: {about or 'untitled'}"
        return Failure(reason, error.status_code)
    try:
        failure = read_failure(read_json(text))
    except ValueError:  # not JSON
        failure = Failure(text)
    return replace(failure, message=failure.message or text or f"status {error.status_code} without a body")


def is_warm_up(error: openai.APIStatusError) -> bool:
    """Whether a page or a plain text says that the server behind a gateway starts. A server that runs sends JSON."""
    text = error.response.text
    is_json = text.lstrip()[:1] in ("{", "[") or "json" in error.response.headers.get("content-type", "")
    return not is_json and _warm_up_phrase(text) is not None


def is_empty(error: BaseException | None) -> bool:
    """Whether an error is a reply without a body."""
    return isinstance(error, openai.APIStatusError) and not error.response.text.strip()


def _warm_up_phrase(page: str) -> str | None:
    words = " ".join(_page_text(page[:TITLE_SEARCH_LENGTH]).lower().split())
    return next((phrase for phrase in WARM_UP_PHRASES if phrase in words), None)


def _page_text(page: str) -> str:
    """The text of a page without its tags, scripts and styles. Takes linear time, on malformed pages too."""
    outside = re.split(r"</?(?:script|style)\b", page, flags=re.IGNORECASE)[::2]
    return html.unescape(re.sub(r"<[^<>]*>", " ", " ".join(outside)))


def page_title(page: str) -> str | None:
    """The title of a web page, if it has one near its start."""
    # Not one expression over the whole page: its time is quadratic in the number of `<title>`.
    _, *titled = re.split(r"</?title\b", page[:TITLE_SEARCH_LENGTH], maxsplit=2, flags=re.IGNORECASE)
    return sanitize(titled[0].partition(">")[2]) or None if len(titled) == 2 else None


def is_page(error: openai.APIStatusError) -> bool:
    return "html" in error.response.headers.get("content-type", "") or error.response.text.lstrip()[:1] == "<"


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """`Retry-After` in seconds or as a date (RFC 9110, 10.2.3), preceded by `retry-after-ms` if a gateway sends it.

    A date is relative to the reply's own `Date`, or to `now` if it has none: clocks differ.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"[0-9]+", milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value)
    until = _http_date(value)
    return None if until is None else max(0.0, (until - (_http_date(headers.get("date", "")) or now)).total_seconds())


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)  # the asctime form of RFC 9110 has no zone


def reason_line(text: str) -> str:
    """The sanitized text, or a note that there was none."""
    return sanitize(text) or "the server gave no readable reason"


def sanitize(text: str) -> str:
    """The text, safe for logs and terminals: one line, without control characters."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
