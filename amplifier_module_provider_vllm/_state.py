"""Know which stored reply a request may go on from, for servers that keep replies (`enable_state`)."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._continuation import replayed
from ._turn import Turn

Params = dict[str, Any]

KEPT_REPLIES = 64
"""How many conversations of one provider can go on at once before the oldest sends its whole history again."""

MISSES_BEFORE_GIVING_UP = 2
"""A server without a store (vLLM's default) answers every `previous_response_id` with 404."""


@dataclass(frozen=True, slots=True)
class _Stored:
    response_id: str
    model: str
    instructions: str | None
    items: Sequence[Mapping[str, Any]]
    """The input as it was sent and the reply as it will be replayed."""


class StoredReplies:
    """The replies that a server should still have. A history that no longer begins with one is sent whole."""

    def __init__(self) -> None:
        self._stored: deque[_Stored] = deque(maxlen=KEPT_REPLIES)
        self._misses = 0

    def remember(self, params: Params, turn: Turn, *, harmony: bool) -> None:
        if turn.response_id is None or self._misses >= MISSES_BEFORE_GIVING_UP:
            return
        items = [*params["input"], *replayed(turn.items, len(params["input"]), harmony=harmony)]
        if not harmony and any(item["type"] == "function_call" for item in items):
            return  # without Harmony, vLLM keeps a conversation's messages but not its calls (vLLM #43244)
        self._stored.append(_Stored(turn.response_id, params["model"], params.get("instructions"), items))

    def shortened(self, params: Params) -> Params:
        """The same request with only what is new to the server; itself where the server has nothing of it."""
        known = max((stored for stored in self._stored if _goes_on(params, stored)), key=_length, default=None)
        if known is None:
            return params
        new = params["input"][len(known.items) :]
        return {**params, "previous_response_id": known.response_id, "input": new}

    def found(self) -> None:
        self._misses = 0

    def forget(self, response_id: str) -> None:
        """The server does not have it: it was restarted, or it keeps nothing at all."""
        self._misses += 1
        kept = [] if self._misses >= MISSES_BEFORE_GIVING_UP else self._stored
        self._stored = deque((stored for stored in kept if stored.response_id != response_id), maxlen=KEPT_REPLIES)


def _goes_on(params: Params, stored: _Stored) -> bool:
    same = params["model"] == stored.model and params.get("instructions") == stored.instructions
    length = len(stored.items)
    return same and length < len(params["input"]) and params["input"][:length] == stored.items


def _length(stored: _Stored) -> int:
    return len(stored.items)
