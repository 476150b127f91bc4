"""Find the stored reply that a request continues, for servers that keep replies (`enable_state`)."""

from collections import deque
from dataclasses import dataclass

from ._ask import Ask, StoredReply, to_prompt_items
from ._prompt import PromptItem
from ._turn import FunctionCall, Turn

MAX_STORED_REPLIES = 64
"""How many conversations of one provider keep their stored reply; older ones send their full history again."""

MISSES_BEFORE_GIVING_UP = 2
"""A server without a response store (vLLM's default) answers every `previous_response_id` with 404."""


@dataclass(frozen=True, slots=True)
class _StoredConversation:
    response_id: str
    model: str
    instructions: str | None
    items: tuple[PromptItem, ...]
    """The prompt as it was sent, and the reply as it will be sent back."""

    def is_prefix_of(self, ask: Ask, items: tuple[PromptItem, ...]) -> bool:
        same = (ask.options.model, ask.prompt.instructions) == (self.model, self.instructions)
        return same and len(self.items) < len(items) and items[: len(self.items)] == self.items


class StoredReplies:
    """The replies that a server has stored. A history that does not start with one is sent in full."""

    def __init__(self) -> None:
        self._conversations: deque[_StoredConversation] = deque(maxlen=MAX_STORED_REPLIES)
        self._misses = 0

    def remember(self, ask: Ask, turn: Turn) -> None:
        if turn.response_id is None or self._misses >= MISSES_BEFORE_GIVING_UP:
            return
        items = (*ask.prompt.items, *to_prompt_items(turn.items))
        if ask.options.family.forgets_stored_calls and any(isinstance(item, FunctionCall) for item in items):
            return
        self._conversations.append(
            _StoredConversation(turn.response_id, ask.options.model, ask.prompt.instructions, items)
        )

    def find(self, ask: Ask) -> StoredReply | None:
        """The stored reply with the most items of the request; None if there is none that it continues."""
        items = ask.items
        matching = (conversation for conversation in self._conversations if conversation.is_prefix_of(ask, items))
        longest = max(matching, key=lambda conversation: len(conversation.items), default=None)
        return None if longest is None else StoredReply(longest.response_id, len(longest.items))

    def reset_misses(self) -> None:
        self._misses = 0

    def forget(self, stored: StoredReply) -> None:
        """Remove a reply that the server does not have: it was restarted, or has no response store."""
        self._misses += 1
        conversations = () if self._misses >= MISSES_BEFORE_GIVING_UP else self._conversations
        remaining = (one for one in conversations if one.response_id != stored.response_id)
        self._conversations = deque(remaining, maxlen=MAX_STORED_REPLIES)
