"""Parse the text of a model with a chat template: reasoning between tags, calls in the family's format, and text.

A call counts where `recovery` looks for one: at the start of a line, outside code and reasoning. Text is held back
only while it may be the start of a tag.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Final

from .._family import Family
from .._turn import FunctionCall, Reasoning, Text
from .call_parser import CallParser, CallPiece, start_of
from .code_fences import FENCE, next_fence
from .formats import OPENERS
from .pieces import Piece

THINK: Final = {"<think>": "</think>"}
MISTRAL_THINK: Final = {**THINK, "[THINK]": "[/THINK]"}
"""Mistral's older tokenizers write thoughts as every other family."""

INDENT: Final = 3
"""Spaces before markup; with more of them Markdown shows code."""

TEXT: Final = Text("")
REASONING: Final = Reasoning("")


Reading = Generator[Piece, None, str]
"""What a step reads of a text; it returns the text that it leaves to the next step."""


class TextParser:
    """The blocks of one reply. A thought opens where no text has begun; blank text is no block."""

    def __init__(self, family: Family, *, in_reasoning: bool, calls: bool) -> None:
        self.reasoning_tokens = 0
        self._formats = family.call_formats
        self._think = MISTRAL_THINK if "mistral" in family.call_formats else THINK
        self._openers = [token for each in self._formats for token in OPENERS[each]] if calls else []
        self._item: Reasoning | Text | FunctionCall = REASONING if in_reasoning else TEXT
        self._end_tag = "</think>" if in_reasoning else None
        """The tag that ends the reasoning; None outside of it."""
        self._call: CallParser | None = None
        self._key = 0
        self._blank: list[str] | None = []
        """The white space before the block; None once the block has begun."""
        self._held = ""
        self._line_start = True
        self._line: list[str] = []
        self._fence = ""
        self._reasoned = 0
        """Characters of reasoning."""

    def push(self, text: str, ids: Sequence[int]) -> Iterator[Piece]:
        if self._is_plain(text):
            self._line.append(text)
            yield Piece(self._key, self._item, text)
            return
        thinking, before = self._end_tag is not None, self._reasoned
        yield from self._read(self._held + text)
        if thinking and self._end_tag is not None:
            self.reasoning_tokens += len(ids)
        elif self._reasoned > before:  # a part of the tokens, by their text
            share = (self._reasoned - before) / len(text)
            self.reasoning_tokens += min(len(ids), round(len(ids) * share))

    def end(self) -> Iterator[Piece]:
        held, self._held = self._held, ""
        if self._call is not None:
            for piece in self._call.end():
                yield from self._call_piece(piece)
            held = self._call.quoted
            self._call = None
        if held:
            yield from self._grow(held)

    def _is_plain(self, text: str) -> bool:
        """Whether the text is a part of a line that has begun."""
        begun = self._blank is None and not self._line_start and self._call is None and self._end_tag is None
        return begun and "\n" not in text and text != ""

    def _read(self, text: str) -> Iterator[Piece]:
        self._held = ""
        while text:
            text = yield from self._step(text)

    def _step(self, text: str) -> Reading:
        if self._call is not None:
            return self._read_call(self._call, text)
        if self._end_tag is not None:
            read = self._read_reasoning if self._blank is None else self._read_reasoning_start
            return read(self._end_tag, text)
        return self._read_line_start(text) if self._line_start else self._read_line(text)

    def _read_reasoning_start(self, end_tag: str, text: str) -> Reading:
        """White space, and the tag that a model may repeat after its template has written it."""
        body = text.lstrip()
        yield from self._grow(text[: len(text) - len(body)])
        tag = next((tag for tag in self._think if body.startswith(tag)), "")
        if not tag and any(tag.startswith(body) for tag in self._think):
            self._held = body
            return ""
        return body[len(tag) :] if tag else (yield from self._read_reasoning(end_tag, body))

    def _read_reasoning(self, end_tag: str, text: str) -> Reading:
        end = text.find(end_tag)
        if end < 0:
            kept = start_of(end_tag, text)
            self._held = text[kept:]
            yield from self._grow(text[:kept])
            return ""
        yield from self._grow(text[:end])
        yield from self._begin(TEXT)
        return text[end + len(end_tag) :]

    def _read_line_start(self, text: str) -> Reading:
        """The place where markup may begin."""
        body = text.lstrip(" ")
        indent = len(text) - len(body)
        tags = [*self._think, *self._think.values()] if self._blank is not None else []
        tokens = [*tags, *([] if self._fence else self._openers)] if indent <= INDENT else []
        token = next((token for token in tokens if body.startswith(token)), None)
        if token is None:
            if any(token.startswith(body) for token in tokens):
                self._held = text
                return ""
            self._line_start = False
            return text
        if token not in tags:
            self._call = CallParser(token, self._formats)
            return body
        if token in self._think:
            yield from self._begin(REASONING)
            self._end_tag = self._think[token]
        return body[len(token) :]

    def _read_line(self, text: str) -> Reading:
        end = text.find("\n") + 1 or len(text)
        yield from self._grow(text[:end])
        self._add_line(text[:end])
        return text[end:]

    def _read_call(self, call: CallParser, text: str) -> Reading:
        for piece in call.push(text):
            yield from self._call_piece(piece)
        if call.rest is None:
            return ""
        self._call = None
        if call.quoted:
            yield from self._grow(call.quoted)
            for line in call.quoted.splitlines(keepends=True):
                self._add_line(line)
        return call.rest

    def _call_piece(self, piece: CallPiece) -> Iterator[Piece]:
        if piece.name is not None:
            yield from self._begin(FunctionCall("", piece.name, ""))
            self._blank = None
        yield Piece(self._key, self._item, piece.arguments, piece.ended)
        if piece.ended:
            self._key, self._item, self._blank = self._key + 1, TEXT, []

    def _begin(self, item: Reasoning | Text | FunctionCall) -> Iterator[Piece]:
        """End the block before, if there is one, and make room for the next."""
        if self._blank is None:
            yield Piece(self._key, self._item, "", ended=True)
            self._key += 1
        self._item, self._blank, self._end_tag = item, [], None
        self._line_start, self._line, self._fence = True, [], ""

    def _grow(self, text: str) -> Iterator[Piece]:
        if self._end_tag is not None:
            self._reasoned += len(text)
        if self._blank is not None:
            self._blank.append(text)
            if not text or text.isspace():
                return
            text, self._blank = "".join(self._blank), None
        if text:
            yield Piece(self._key, self._item, text)

    def _add_line(self, text: str) -> None:
        """Remember what the line is made of: it may open or close a code block."""
        self._line.append(text)
        self._line_start = text.endswith("\n")
        if self._line_start:
            line, self._line = "".join(self._line)[:-1], []
            if mark := FENCE.match(line):
                self._fence = next_fence(self._fence, mark)
