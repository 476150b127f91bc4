"""The calls of one reply as their pieces arrive, which servers number, name and repeat in different ways."""

from dataclasses import dataclass, field
from typing import Final

from .._strict_json import wire_text
from .wire import CallDelta

MAX_NAME: Final = 128
"""Characters after which a name does not go on: no tool has a longer one."""


@dataclass(slots=True)
class GrowingCall:
    """One call, as far as it has arrived."""

    number: int
    """Its place among the reply's calls."""
    call_id: str | None = None
    name: str = ""
    pieces: list[str] = field(default_factory=list[str])
    """Its arguments."""
    is_shown: bool = False
    is_ended: bool = False
    is_complete: bool = False
    """Whether its block has all of it: another piece may follow one of the next call."""

    @property
    def arguments(self) -> str:
        return wire_text("".join(self.pieces))

    def add(self, delta: CallDelta) -> None:
        self.is_complete = False
        self.call_id = self.call_id or delta.call_id
        if delta.name and not self.pieces and len(self.name) < MAX_NAME:
            # Some servers send a name in pieces, others repeat it with each piece of the arguments.
            self.name = delta.name if delta.name.startswith(self.name) else self.name + delta.name
        if delta.arguments:
            self.pieces.append(delta.arguments)


class Calls:
    """The calls in the order of their first pieces."""

    def __init__(self) -> None:
        self._calls: list[GrowingCall] = []
        self._by_index: dict[int, GrowingCall] = {}
        self._by_id: dict[str, GrowingCall] = {}

    @property
    def last(self) -> GrowingCall | None:
        return self._calls[-1] if self._calls else None

    @property
    def incomplete(self) -> list[GrowingCall]:
        return [call for call in self._calls if not call.is_complete]

    def add(self, delta: CallDelta) -> GrowingCall:
        """The call that a piece belongs to, with the piece."""
        call = self._find(delta)
        if call is None or _begins_another(call, delta):
            call = GrowingCall(len(self._calls))
            self._calls.append(call)
        if delta.index is not None:
            self._by_index[delta.index] = call
        if delta.call_id is not None:
            self._by_id[delta.call_id] = call
        call.add(delta)
        return call

    def _find(self, delta: CallDelta) -> GrowingCall | None:
        """By index; some servers give every call the index 0, or none, so that only a new id tells a new call."""
        numbered = self.last if delta.index is None else self._by_index.get(delta.index)
        if delta.call_id is None or (numbered is not None and numbered.call_id in (None, delta.call_id)):
            return numbered
        if delta.index is not None and numbered is None and delta.name:
            return None
        return self._by_id.get(delta.call_id)


def _begins_another(call: GrowingCall, delta: CallDelta) -> bool:
    """Whether a piece without an id is the start of a new call, not a piece of the one at its index."""
    if not delta.name or not call.pieces or (delta.call_id is not None and delta.call_id == call.call_id):
        return False
    return delta.name != call.name or (call.pieces[-1].endswith("}") and delta.arguments.startswith("{"))
