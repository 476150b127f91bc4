"""The visible part of a gpt-oss text as it grows: without Harmony's control tokens, and up to a stop string.

vLLM parses gpt-oss by token ids. So it cuts no stop string off, and returns what it cannot parse as text: a header in
which a reply was truncated, or the token that ends a message.
"""

import re
from collections.abc import Sequence
from typing import Final

CONTROL: Final = re.compile(
    r"<\|(?:start|channel|constrain)\|>(?:\w{1,64}(?: to=[\w.-]{0,128})? ?)?"
    r"|<\|(?:message|end|return|call|startoftext|endoftext|endofprompt|reserved_[0-9]{1,6})\|>"
)
"""A control token, with the part of the header that follows it."""

UNDECIDED: Final = re.compile(
    r"<(?:\|\w{0,16}\|?)?\Z"
    r"|<\|(?:start|channel|constrain)\|>(?:\w{1,64}(?: (?:t(?:o(?:=[\w.-]{0,128} ?)?)?)?)?)?\Z"
)
"""The end of a text that may become a control token or a longer header. Short, so that a stream stays linear."""

TRUNCATED: Final = re.compile(r"<\|(?:(?:start|channel|constrain)\|>.*|(?:st|ch|co|me|en|re|ca)\w*\|?)")
"""What a truncated text ends in: a header, or a part of a token. Under a grammar the model writes tokens in parts."""


class VisibleText:
    """What is visible of one text. Text is held back only until it is decided."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.raw: list[str] = []
        """The deltas as the server sent them."""
        self._stop = stop
        self._firsts = {one[0] for one in stop}
        self._longest = max(map(len, stop), default=0)
        self._undecided = ""
        self._start_of_stop = ""
        self._stopped = False

    def push(self, delta: str) -> str:
        """The text that became visible."""
        self.raw.append(delta)
        if self._undecided or "<" in delta:
            delta = self._without_control(delta)
        return self._before_stop(delta) if self._stop else delta

    def end(self) -> str:
        """The rest of the text, at its end."""
        rest, self._undecided = "" if TRUNCATED.fullmatch(self._undecided) else self._undecided, ""
        if not self._stop:
            return rest
        rest = self._before_stop(rest) + self._start_of_stop
        self._start_of_stop = ""
        return rest

    def of(self, text: str) -> str:
        """What is visible of a complete text."""
        whole = VisibleText(self._stop)
        return whole.push(text) + whole.end()

    def _without_control(self, delta: str) -> str:
        text = self._undecided + delta
        undecided = UNDECIDED.search(text)
        end = len(text) if undecided is None else undecided.start()
        self._undecided = text[end:]
        return CONTROL.sub("", text[:end])

    def _before_stop(self, text: str) -> str:
        """The text up to the stop string that ends first, less an end that may be the start of one."""
        if self._stopped:
            return ""
        text = self._start_of_stop + text
        ends = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self._stopped, self._start_of_stop = True, ""
            return text[: min(ends)[1]]
        tails = [at for at in range(max(0, len(text) - self._longest + 1), len(text)) if text[at] in self._firsts]
        end = next((at for at in tails if any(stop.startswith(text[at:]) for stop in self._stop)), len(text))
        self._start_of_stop = text[end:]
        return text[:end]
