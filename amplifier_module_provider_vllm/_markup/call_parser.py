"""Read the markup of a call as it arrives: its name first, then its arguments as the model writes them.

What cannot be read in parts is held back until it is complete, and read by `formats`. Nothing is scanned twice.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from .._family import CallFormat
from .formats import read_calls
from .headers import HEADERS, Header, prefix_pattern
from .json_scanner import JsonScanner

PARAMETER = prefix_pattern("<parameter=", r"([\w.-]{1,128})", ">")
PARAMETER_END = "</parameter>"
FUNCTION_END = "</function>"


class CallPiece(NamedTuple):
    name: str | None
    """The name of a call that begins here; None: the piece belongs to the last one."""
    arguments: str
    ended: bool = False


Reading = Generator[CallPiece, None, str]
"""What a step reads of a text; it returns the text that it leaves to the next step."""


class CallParser:
    """The markup of one call, or of a list of calls, from its opener on.

    A call whose arguments turn out not to be JSON stays one, with what the model wrote up to the end tag: the model
    meant a call and can correct it.
    """

    def __init__(self, opener: str, formats: Sequence[CallFormat]) -> None:
        self.rest: str | None = None
        """The text after the markup; None while the markup goes on."""
        self.quoted = ""
        """The markup, if it is not a call after all."""
        self._opener = opener
        self._headers = [header for header in HEADERS if header.format in formats]
        self._header = HEADERS[0]
        self._scanner = JsonScanner(0)
        self._held: list[str] = []
        self._undecided = ""
        self._tail_tokens: list[str] = []
        self._in_parameter = False
        self._step: Callable[[str], Reading] = self._begin

    def push(self, text: str) -> Iterator[CallPiece]:
        while text and self.rest is None:
            text = yield from self._step(text)

    def end(self) -> Iterator[CallPiece]:
        """What was held back, at the end of the reply."""
        held = "".join(self._held) + self._undecided
        if self._step == self._broken and held:
            yield CallPiece(None, held)
        elif self._step in (self._begin, self._json, self._parameters):
            self.quoted = held
        self.rest = ""

    def _begin(self, text: str) -> Reading:
        self._undecided += text
        for header in self._headers:
            match = header.pattern.match(self._undecided)
            if match is None:
                continue
            if match["all"] is None:
                return ""
            return (yield from self._take(header, match["name"] if header.body == "arguments" else "", match.end()))
        return self._quote(self._opener, self._undecided[len(self._opener) :])

    def _take(self, header: Header, name: str, end: int) -> Reading:
        text, self._undecided = self._undecided, ""
        self._header, self._scanner, self._tail_tokens = header, JsonScanner(header.depth), list(header.tail)
        match header.body:
            case "arguments":
                self._step = self._arguments
                yield CallPiece(name, "{")
            case "json":
                self._held, self._step = [text[:end]], self._json
            case "parameters":
                self._held, self._step = [text[:end]], self._parameters
        return text[end:]

    def _arguments(self, text: str) -> Reading:
        end = self._scanner.find_end(text, self._header.depth - 1)
        complete = end is not None and not self._scanner.broken
        if complete or text[:end]:
            yield CallPiece(None, text[:end], ended=complete)
        if end is None:
            return ""
        self._step = self._tail if complete else self._broken
        return text[end:]

    def _broken(self, text: str) -> Reading:
        """Arguments that are not JSON end at the end tag."""
        tag = next((end_tag for end_tag in self._header.tail if end_tag.startswith("<")), None)
        text = self._undecided + text
        end = -1 if tag is None else text.find(tag)
        if tag is not None and end >= 0:
            yield CallPiece(None, text[:end], ended=True)
            self._undecided, self._step = "", self._tail
            return text[end:]
        kept = len(text) if tag is None else start_of(tag, text)
        self._undecided = text[kept:]
        if kept:
            yield CallPiece(None, text[:kept])
        return ""

    def _json(self, text: str) -> Reading:
        end = self._scanner.find_end(text, 0)
        self._held.append(text[:end])
        if end is None:
            return ""
        if self._scanner.broken:
            return self._quote("".join(self._held), text[end:])
        return (yield from self._complete(self._header.tail[0] if self._header.tail else "", text[end:]))

    def _parameters(self, text: str) -> Reading:
        text, self._undecided = self._undecided + text, ""
        while text:
            if self._in_parameter:
                text = self._in_value(text)
                continue
            tag = text.lstrip()
            self._held.append(text[: len(text) - len(tag)])
            if tag.startswith(FUNCTION_END):
                self._held.append(FUNCTION_END)
                return (yield from self._complete("", tag[len(FUNCTION_END) :]))
            parameter = PARAMETER.match(tag)
            if FUNCTION_END.startswith(tag) or (parameter is not None and parameter["all"] is None):
                self._undecided = tag
                return ""
            if parameter is None:
                return self._quote("".join(self._held), tag)
            self._held.append(parameter[0])
            self._in_parameter, text = True, tag[parameter.end() :]
        return ""

    def _in_value(self, text: str) -> str:
        """Hold the value of a parameter; returns the text after it."""
        end = text.find(PARAMETER_END)
        if end < 0:
            kept = start_of(PARAMETER_END, text)
            self._held.append(text[:kept])
            self._undecided = text[kept:]
            return ""
        end += len(PARAMETER_END)
        self._held.append(text[:end])
        self._in_parameter = False
        return text[end:]

    def _complete(self, end_tag: str, rest: str) -> Reading:
        markup = "".join(self._held)
        try:
            calls = read_calls(markup + end_tag, (self._header.format,))
        except ValueError:
            return self._quote(markup, rest)
        for call in calls:
            yield CallPiece(call.name, call.arguments, ended=True)
        self._step = self._tail
        return rest

    def _tail(self, text: str) -> Reading:
        """Skip what ends the call."""
        text = self._undecided + text
        if text.startswith(",") and self._tail_tokens[:1] == ["}"] and not self._scanner.broken:
            self._undecided, self._step = "", self._more_keys
            return text
        while self._tail_tokens:
            text = text.lstrip()
            token = self._tail_tokens[0]
            if token.startswith(text) and text != token:
                self._undecided = text
                return ""
            text = text.removeprefix(token)
            self._tail_tokens.pop(0)
        self.rest = text
        yield from ()
        return ""

    def _more_keys(self, text: str) -> Reading:
        """Skip what stands beside the name and the arguments."""
        end = self._scanner.find_end(text, 0)
        if end is not None:
            self._step = self._tail
        yield from ()
        return "" if end is None else text[end:]

    def _quote(self, markup: str, rest: str) -> str:
        self.quoted, self.rest = markup, rest
        return ""


def start_of(token: str, text: str) -> int:
    """Where the end of a text starts that may be the start of the token; the text's length if nothing is."""
    at = text.find(token[0], max(0, len(text) - len(token) + 1))
    while at >= 0:
        if token.startswith(text[at:]):
            return at
        at = text.find(token[0], at + 1)
    return len(text)
