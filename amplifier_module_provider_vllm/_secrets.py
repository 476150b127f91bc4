"""The secrets of one entry, and a text without them: servers and gateways repeat the key that they refuse."""

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ._constants import NO_API_KEY

HIDDEN: Final = "[REDACTED]"

MIN_LENGTH: Final = 6
"""Characters. A shorter key is hidden where it stands alone: inside words it would hide more words than keys."""


class Secrets:
    """What no error, event or log line may repeat."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        spelled = {one for value in values for one in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
        patterns = map(_pattern, sorted(spelled - {"", NO_API_KEY}, key=len, reverse=True))
        self._pattern = re.compile("|".join(patterns) or r"(?!)")

    def hide(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text)


def header_secrets(headers: Mapping[str, str]) -> Iterator[str]:
    """The values of an operator's headers, the key among them: whole, and as the parts that a server may repeat."""
    for name, value in headers.items():
        if name.lower() == "authorization":
            scheme, _, key = value.partition(" ")
            yield key or scheme
            yield from _basic_credentials(key) if scheme == "Basic" else ()
        elif len(value) >= MIN_LENGTH:
            yield value


def url_secrets(url: str) -> Iterator[str]:
    """The user, the password and the query's values of a URL, as far as they are long enough for secrets."""
    parts = urlsplit(url)
    values = [
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        *(value for _, value in parse_qsl(parts.query)),
    ]
    yield from (value for value in values if len(value) >= MIN_LENGTH)


def _basic_credentials(key: str) -> set[str]:
    try:
        pair = b64decode(key).decode(errors="replace")
    except ValueError:  # not Base64
        return set()
    return {pair, *(part for part in pair.split(":", 1) if len(part) >= MIN_LENGTH)}


def _pattern(value: str) -> str:
    return re.escape(value) if len(value) >= MIN_LENGTH else rf"(?<!\w){re.escape(value)}(?!\w)"
