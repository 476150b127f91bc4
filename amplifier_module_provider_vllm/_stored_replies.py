"""Find the stored reply that a request continues, for servers that keep replies (`enable_state`)."""

import re
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Final

from ._ask import Ask, StoredReply, to_prompt_items
from ._family import Family
from ._prompt import digests
from ._turn import FunctionCall, Turn

MAX_STORED_REPLIES: Final = 64
"""How many conversations of one provider keep their stored reply; older ones send their full history again."""

MISSES_BEFORE_GIVING_UP: Final = 2
"""A server without a response store (vLLM's default) answers every `previous_response_id` with 404."""

NO_STORE: Final = (
    "`enable_state` is set, but the server keeps no replies, so every request has the full history: start vLLM with"
    " VLLM_ENABLE_RESPONSES_API_STORE=1, or remove the key"
)

AGENTIC_API_ID: Final = re.compile(r"resp_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Response ids of agentic-api, whose own store keeps calls. vLLM's are 16 hex digits; LiteLLM's contain vLLM's."""


@dataclass(frozen=True, slots=True)
class _StoredConversation:
    """A conversation that a server keeps. Its items are not kept here: images would fill the memory."""

    response_id: str
    settings: bytes
    """Digest of what the server keeps beside the items: it applies the stored tools and effort, not the new ones."""
    length: int
    items: bytes
    """Digest of the prompt as it was sent, and of the reply as it will be sent back."""
    epoch: int
    """The number of misses before the reply was stored."""


class StoredReplies:
    """The replies that a server has stored. A history that does not start with one is sent in full."""

    def __init__(self) -> None:
        self._conversations: deque[_StoredConversation] = deque(maxlen=MAX_STORED_REPLIES)
        self._epoch = 0
        self._storeless_evidence = 0

    @property
    def given_up(self) -> bool:
        """Whether the server seems to have no response store."""
        return self._storeless_evidence >= MISSES_BEFORE_GIVING_UP

    def remember(self, ask: Ask, turn: Turn) -> None:
        if turn.response_id is None or self.given_up:
            return
        items = (*ask.prompt.items, *to_prompt_items(turn.items))
        calls_tools = any(isinstance(item, FunctionCall) for item in items)
        if calls_tools and not keeps_calls(ask.options.family, turn.response_id):
            return
        *_, digest = digests(items)
        self._conversations.append(
            _StoredConversation(turn.response_id, _settings(ask), len(items), digest, self._epoch)
        )

    def find(self, ask: Ask) -> StoredReply | None:
        """The stored reply with the most items of the request; None if there is none that it continues."""
        items, settings = ask.items, _settings(ask)
        matching = [one for one in self._conversations if one.settings == settings and one.length < len(items)]
        longest = max((one.length for one in matching), default=0)
        by_length = dict(enumerate(digests(islice(items, longest)), start=1))
        found = [one for one in matching if by_length[one.length] == one.items]
        best = max(found, key=lambda one: one.length, default=None)
        return None if best is None else StoredReply(best.response_id, best.length)

    def reset_misses(self) -> None:
        self._storeless_evidence = 0

    def forget(self, stored: StoredReply) -> bool:
        """Remove a reply that the server does not have. Whether it thereby became clear that it has no store.

        After a restart every conversation misses once. A reply that was stored after the last miss, and misses too, is
        evidence against a store.
        """
        missed = next((one for one in self._conversations if one.response_id == stored.response_id), None)
        if missed is None:  # removed by another call of the same conversation
            return False
        if missed.epoch == self._epoch:
            self._storeless_evidence += 1
            self._epoch += 1
        self._conversations.remove(missed)
        if self.given_up:
            self._conversations.clear()
        return self.given_up


def keeps_calls(family: Family, response_id: str) -> bool:
    """Whether the store that gave a reply this id keeps the calls of a conversation too."""
    return not family.forgets_stored_calls or AGENTIC_API_ID.fullmatch(response_id) is not None


def _settings(ask: Ask) -> bytes:
    tools = ask.prompt.tools if ask.may_call_tools else ()
    hosted = ask.options.hosted_tools if ask.may_call_tools else ()
    kept = (ask.options.model, ask.prompt.instructions, tools, hosted, ask.options.reasoning_effort)
    return blake2b(repr(kept).encode()).digest()
