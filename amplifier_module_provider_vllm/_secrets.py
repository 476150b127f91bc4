"""The secrets of one entry, and a text without them: servers and gateways repeat the key that they refuse."""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, cast
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import openai
from amplifier_core.llm_errors import LLMError

from ._constants import NO_API_KEY
from ._strict_json import Json

HIDDEN: Final = "[REDACTED]"

MIN_LENGTH: Final = 6
"""Characters. A shorter key is hidden where it stands alone: inside words it would hide more words than keys."""

PRIVATE: Final = frozenset({"headers", "authorization", "server_url"})
"""The keys of a hosted tool that may hold secrets."""

MAX_MESSAGE_LENGTH: Final = 2000
TAIL_LENGTH: Final = 300
"""Characters; our own advice stands at the end of a message."""


class Secrets:
    """The values that no error, event or log line may repeat."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = frozenset(values)
        spelled = {one for value in self._values for one in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
        patterns = map(_pattern, sorted(spelled - {"", NO_API_KEY}, key=len, reverse=True))
        self._pattern = re.compile("|".join(patterns) or r"(?!)")

    def __or__(self, other: "Secrets") -> "Secrets":
        return Secrets(self._values | other._values)

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


def tool_secrets(tools: Iterable[Mapping[str, Json]]) -> Iterator[str]:
    """The values of the headers that a gateway sends to an MCP server, and what its URL hides."""
    for tool in tools:
        match tool.get("headers"):
            case Mapping() as headers:
                yield from header_secrets({name: str(value) for name, value in headers.items()})
            case _:
                pass
        yield from header_secrets({"authorization": str(tool.get("authorization") or "")})
        with suppress(ValueError):  # the URL is the gateway's to refuse
            yield from url_secrets(str(tool.get("server_url") or ""))


def loggable_body(body: Mapping[str, Json]) -> Mapping[str, Json]:
    """The same request, whose hosted tools show no secret in a log: openai 2 logs a body at DEBUG."""
    match body.get("tools"):
        case list(tools):
            return {**body, "tools": [_loggable_tool(tool) for tool in tools]}
        case _:
            return body


class _UnprintableText(str):
    """Text that is sent as it is, and hidden where its container is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def _loggable_tool(tool: Json) -> Json:
    if not isinstance(tool, Mapping) or PRIVATE.isdisjoint(tool):
        return tool
    return {key: _unprintable(value) if key in PRIVATE else value for key, value in tool.items()}


def _unprintable(value: Json) -> Json:
    match value:
        case str():
            return _UnprintableText(value)
        case Mapping():
            return {name: _unprintable(one) for name, one in value.items()}
        case _:
            return value


def url_secrets(url: str) -> Iterator[str]:
    """The user, the password and the query's values of a URL, as far as they are long enough for secrets."""
    parts = urlsplit(url)
    values = [
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        *(value for _, value in parse_qsl(parts.query)),
    ]
    yield from (value for value in values if len(value) >= MIN_LENGTH)


@contextmanager
def hidden_secrets(secrets: Callable[[], Secrets]) -> Generator[None]:
    """Let no `LLMError` pass with a secret in it: a server's words are classified first, and redacted here."""
    try:
        yield
    except LLMError as error:
        _hide_secrets(error, secrets())
        raise


def shorten(text: str) -> str:
    """The text without its middle, if it is long; after `Secrets.hide()`, which does not find half a key."""
    if len(text) <= MAX_MESSAGE_LENGTH:
        return text
    return f"{text[: MAX_MESSAGE_LENGTH - TAIL_LENGTH]}…{text[-TAIL_LENGTH:]}"


def _hide_secrets(error: LLMError, secrets: Secrets) -> None:
    """Remove the secrets from the error and all that led to it: tracebacks and debuggers show that too."""
    for link in _links(error, set()):
        link.args = tuple(_without_secrets(argument, secrets) for argument in link.args)
        if link is not error:  # such as the document of a JSONDecodeError
            vars(link).update({name: _without_secrets(value, secrets) for name, value in vars(link).items()})
        if isinstance(link, openai.APIError):
            link.body = None
            link.__context__ = link.__cause__  # the SDK hides the HTTP library's error, which quotes the `Location`
    error.args = (shorten(str(error)),)


def _without_secrets(argument: object, secrets: Secrets) -> object:
    match argument:
        case str():
            return secrets.hide(argument)
        case bytes() | bytearray():
            return secrets.hide(argument.decode(errors="replace")).encode()
        case _:
            return argument


def _links(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """The error, its causes and its contexts."""
    if error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = [argument for argument in error.args if isinstance(argument, BaseException)]
        group = cast("BaseExceptionGroup", error).exceptions if isinstance(error, BaseExceptionGroup) else ()
        for link in (error.__context__, error.__cause__, *wrapped, *group):
            yield from _links(link, seen)


def _basic_credentials(key: str) -> set[str]:
    try:
        pair = b64decode(key).decode(errors="replace")
    except ValueError:  # not Base64
        return set()
    return {pair, *(part for part in pair.split(":", 1) if len(part) >= MIN_LENGTH)}


def _pattern(value: str) -> str:
    return re.escape(value) if len(value) >= MIN_LENGTH else rf"(?<!\w){re.escape(value)}(?!\w)"
