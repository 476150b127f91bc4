"""A fault of a server: what it sends, and the error that it must end in if it is permanent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from amplifier_core.llm_errors import LLMError

from tests.support.replay import Reply

RETRIES: Final = 2
"""The number of retries of the table's provider."""


@dataclass(frozen=True)
class Fault:
    """`message`: a part of the error message; `text`: all the text that one streamed attempt shows.

    `whole_message`: a part of the error message of the unstreamed reply, if that differs.
    """

    sse_reply: Reply
    whole_reply: Reply
    error: type[LLMError]
    message: str
    retries: int = RETRIES
    status: int | None = None
    text: str = ""
    config: Mapping[str, Any] = field(default_factory=lambda: {"max_retries": RETRIES})

    whole_message: str | None = None

    def reply(self, stream: bool) -> Reply:
        return self.sse_reply if stream else self.whole_reply

    def error_message(self, stream: bool) -> str:
        return self.message if stream or self.whole_message is None else self.whole_message


def same_fault(reply: Reply, error: type[LLMError], message: str, retries: int = RETRIES) -> Fault:
    """A fault with the same reply, streamed or not."""
    return Fault(reply, reply, error, message, retries, reply.status if reply.status >= 300 else None)
