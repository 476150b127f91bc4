"""Parse the token ids of a gpt-oss reply into blocks, one for each Harmony message.

A message that breaks the format becomes text: nothing is lost, and no control token becomes visible.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal

from .._markup.pieces import Piece
from .._turn import FunctionCall, Reasoning, Text
from .._visible_text import VisibleText

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

ENDOFTEXT: Final = 199999
RETURN: Final = 200002
CHANNEL: Final = 200005
START: Final = 200006
END: Final = 200007
MESSAGE: Final = 200008
CALL: Final = 200012
ASSISTANT: Final = 173781
FINAL: Final = 17196

FIRST_SPECIAL: Final = 199998
LAST_TOKEN: Final = 201088
MAX_PARTIAL: Final = 3
"""Tokens at the end of a text that may be a part of a character, which has four bytes at most."""
ENDS: Final = frozenset({RETURN, END, CALL, ENDOFTEXT})
NEW_HEADER: Final = (START, ASSISTANT)
TEXT_HEADER: Final = (START, ASSISTANT, CHANNEL, FINAL, MESSAGE)


class HarmonyParser:
    """The blocks of one reply. Its prompt ends with `<|start|>assistant`, so the reply begins in a header."""

    def __init__(self, encoding: "HarmonyEncoding") -> None:
        # The import takes 0.1 s, and most servers never need it.
        from openai_harmony import (
            HarmonyError,  # pyright: ignore[reportUnknownVariableType] - of its compiled module, which has no stub
            Role,
            StreamableParser,
        )

        self.reasoning_tokens = 0
        self._encoding = encoding
        self._parser = StreamableParser(encoding, role=Role.ASSISTANT)
        self._error: type[Exception] = HarmonyError
        self._place: Literal["header", "content", "between"] = "header"
        self._header: list[int] = []
        self._item: Reasoning | Text | FunctionCall = Text("")
        self._begun = False
        self._key = 0
        self._partial: list[int] = []
        """Content that ends within a character."""
        self._is_valid = True
        """Whether the message so far is valid UTF-8."""

    def push(self, text: str, ids: Sequence[int]) -> Iterator[Piece]:  # noqa: ARG002 - others parse the text
        for is_plain, run in groupby(ids, _is_plain):
            yield from self._run(run, is_plain=is_plain)

    def end(self) -> Iterator[Piece]:
        """What stands in a header that never ended: its text, if it is none."""
        if self._place == "header":
            yield from self._leave_header()
        elif self._place == "content":
            yield from self._grow(self._decode_each(self._partial))

    def _run(self, run: Iterator[int], *, is_plain: bool) -> Iterator[Piece]:
        """Tokens of one kind: a run of plain ones may begin in a header and go on in the content."""
        for token in run:
            if is_plain and self._place == "content":
                yield from self._content([token, *run])
            elif 0 <= token <= LAST_TOKEN:
                yield from self._markup(token)

    def _content(self, run: list[int]) -> Iterator[Piece]:
        if isinstance(self._item, Reasoning):
            self.reasoning_tokens += len(run)
        yield from self._grow(self._decode([*self._partial, *run]) if self._is_valid else self._decode_each(run))

    def _decode(self, ids: list[int]) -> str:
        """The text of many tokens at once: openai-harmony's parser, which takes any bytes, needs 2 µs for each."""
        for end in range(len(ids), max(0, len(ids) - MAX_PARTIAL) - 1, -1):
            with suppress(self._error):
                text, self._partial = self._encoding.decode_utf8(ids[:end]), ids[end:]
                return text
        return self._decode_each(ids)

    def _decode_each(self, ids: list[int]) -> str:
        """The text, with a replacement for each byte of no character; its parser has to read the rest of it too."""
        self._is_valid, self._partial = False, []
        return "".join(self._parser.last_content_delta or "" for token in ids if self._feed(token))

    def _grow(self, text: str) -> Iterator[Piece]:
        if text:
            self._begun = True
            yield Piece(self._key, self._item, text)

    def _markup(self, token: int) -> Iterator[Piece]:
        """A token of a header, between messages, or one that ends a message."""
        match self._place:
            case "header" if token == START:  # without the end of the header before
                yield from self._leave_header()
                yield from self._markup(token)
            case "header":
                yield from self._in_header(token)
            case "content" if token in ENDS:
                yield from self._end_message()
            case "content" if token in (START, CHANNEL):  # without the end of the message before
                yield from self._end_message()
                yield from self._markup(token)
            case "between" if token in (START, CHANNEL):
                self._place, self._header = "header", []
                for each in (START,) if token == START else (*NEW_HEADER, CHANNEL):
                    yield from self._in_header(each)
            case "between" if token < FIRST_SPECIAL:
                self._begin_text()
                yield from self._content([token])
            case _:
                return  # a control token without meaning in this place

    def _in_header(self, token: int) -> Iterator[Piece]:
        if token in ENDS:
            yield from self._leave_header()
            return
        is_valid = self._feed(token)
        if token != MESSAGE:
            self._header.append(token)
        elif is_valid:
            yield from self._begin_message()
        else:
            yield from self._header_text()
            self._begin_text()

    def _leave_header(self) -> Iterator[Piece]:
        """End a header that has no message."""
        if self._feed(MESSAGE):
            self._feed(END)
        self._item = Text("")
        yield from self._header_text()
        yield from self._end_message()

    def _header_text(self) -> Iterator[Piece]:
        """The part of an invalid header that is none."""
        text = VisibleText().of(self._encoding.decode(self._header))
        if text.strip():
            self._item, self._begun = Text(""), True
            yield Piece(self._key, self._item, text)

    def _begin_message(self) -> Iterator[Piece]:
        self._place = "content"
        recipient = (self._parser.current_recipient or "").partition("<|")[0].strip()
        if recipient:
            self._item, self._begun = FunctionCall("", recipient.removeprefix("functions."), ""), True
            yield Piece(self._key, self._item, "")
        else:
            self._item = Reasoning("") if self._parser.current_channel == "analysis" else Text("")

    def _begin_text(self) -> None:
        """Take what follows for a text, after a header that is missing or invalid."""
        for token in TEXT_HEADER:
            self._feed(token)
        self._place, self._item = "content", Text("")

    def _end_message(self) -> Iterator[Piece]:
        if self._place == "content":
            yield from self._grow(self._decode_each(self._partial))
            self._feed(END)
            self._is_valid = True
        if self._begun:
            yield Piece(self._key, self._item, "", ended=True)
            self._key += 1
        self._place, self._begun, self._header = "between", False, []

    def _feed(self, token: int) -> bool:
        """Whether the token has its place. An invalid header leaves the parser between two messages."""
        try:
            self._parser.process(token)
        except self._error:
            return False
        return True


def _is_plain(token: int) -> bool:
    """Whether a token is one of text, if it stands in the content."""
    return 0 <= token < FIRST_SPECIAL
