"""What a model says in one reply, in the words of no endpoint."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Part:
    """A piece of the reply of one kind, in the pieces in which it is streamed; of a call, these are its arguments."""

    kind: Literal["reasoning", "text", "call"]
    pieces: tuple[str, ...]
    name: str = ""
    call_id: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Speech:
    """One reply. The cap of `length` cut its last part; `abort` is the engine's own end of a request."""

    parts: tuple[Part, ...]
    ending: Literal["complete", "length", "abort"] = "complete"
    input_tokens: int = 9
    output_tokens: int = 8
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    follows: "Speech | None" = None
    """The reply that a cap cut, if this one goes on from it."""

    def texts(self, kind: Literal["reasoning", "text"]) -> str:
        """All the text of this kind."""
        return "".join(part.text for part in self.parts if part.kind == kind)

    @property
    def calls(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.kind == "call")

    @property
    def ends_in_cut_call(self) -> bool:
        return any(map(self.is_cut, self.calls))

    def is_cut(self, part: Part) -> bool:
        """Whether the cap cut this part."""
        return self.ending == "length" and part is self.parts[-1]


def reasoning_part(*pieces: str) -> Part:
    return Part("reasoning", pieces)


def text_part(*pieces: str) -> Part:
    return Part("text", pieces)


def call_part(name: str, *pieces: str, call_id: str = "call_1") -> Part:
    return Part("call", pieces, name, call_id)


@dataclass(frozen=True)
class PartEvents:
    """The events of one part."""

    before: list[bytes]
    deltas: list[bytes]
    after: list[bytes]

    @property
    def events(self) -> list[bytes]:
        return [*self.before, *self.deltas, *self.after]


@dataclass(frozen=True)
class Stream:
    """A streamed reply; each entry is one event with its blank line."""

    opening: list[bytes]
    parts: list[PartEvents]
    ending: list[bytes]

    @property
    def events(self) -> list[bytes]:
        return [*self.unended, *self.ending]

    @property
    def unended(self) -> list[bytes]:
        """The events before those that end the reply."""
        return [*self.opening, *(event for part in self.parts for event in part.events)]

    @property
    def before_last_delta(self) -> list[bytes]:
        """The events before the last delta."""
        *parts, last = self.parts
        return [*Stream(self.opening, parts, []).events, *last.before, *last.deltas[:-1]]


REASONING_DELTAS: Final = ("They ", "want ", "cities.")
ANSWER_DELTAS: Final = ("Zürich, ", "東京, ", "and ", "Paris 🗼.")
REASONING_TEXT, ANSWER_TEXT = "".join(REASONING_DELTAS), "".join(ANSWER_DELTAS)
CITIES_ANSWER: Final = Speech((reasoning_part(*REASONING_DELTAS), text_part(*ANSWER_DELTAS)))
