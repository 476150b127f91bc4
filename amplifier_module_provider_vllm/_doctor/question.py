"""Ask a model something as a session would, once, and note what came back and when."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from amplifier_core.message_models import ChatRequest, Message

from .._ask import Ask, StoredReply, to_ask
from .._config import Config
from .._endpoints import encode
from .._family import Family
from .._observability import ObservedCall, event_labels
from .._options import decide_options
from .._retries import Retries
from .._rounds import Rounds
from .._server import Server
from .._turn import Text, Turn

MAX_TOKENS = 1024
MAX_IDLE_TIMEOUT = 60.0
"""Seconds without a byte; a session waits longer, but here a user sits in front of the terminal."""


def without_retries(config: Config) -> Config:
    """The same config without retries, continuations and stored replies: a failure must show."""
    idle_timeout = min(config.stream_idle_timeout, MAX_IDLE_TIMEOUT)
    unused = {"max_retries": 0, "startup_timeout": 0, "max_continuations": 0, "enable_state": False}
    return config.model_copy(update={**unused, "stream_idle_timeout": idle_timeout})


@dataclass(slots=True)
class _Stopwatch:
    """Hooks that note when the first part of the reply arrived."""

    started: float = field(default_factory=time.monotonic)
    first: float | None = None

    async def emit(self, event: str, _data: dict[str, Any], /) -> None:
        if event == "llm:stream_block_delta" and self.first is None:
            self.first = time.monotonic()


@dataclass(frozen=True, slots=True)
class Answer:
    turn: Turn
    family: Family
    seconds: float
    seconds_to_first: float | None
    """None if nothing was streamed."""

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.turn.items if isinstance(item, Text)).strip()

    @property
    def excerpt(self) -> str:
        """The beginning of the text, or a note that the reply was cut off before any text."""
        if self.turn.truncated and not self.text:
            return f"nothing within {MAX_TOKENS} tokens"
        return repr(self.text if len(self.text) <= 80 else f"{self.text[:80]}…")


async def ask(
    server: Server,
    text: str,
    *,
    system: str | None = None,
    store: bool = False,
    stored: StoredReply | None = None,
    **fields: Any,
) -> Answer:
    """The reply to one question, with further `fields` of Amplifier's request.

    `store`: the server is to keep the reply; `stored`: the kept reply that the question goes on from.
    """
    model = await server.model(server.config.default_model)
    messages = [Message(role="system", content=system)] if system else []
    request = ChatRequest(
        messages=[*messages, Message(role="user", content=text)],
        max_output_tokens=min(MAX_TOKENS, server.limits(model).max_output_tokens),
        temperature=0.0,
        **fields,
    )
    options = decide_options(request, {}, server.config, model=model, family=server.family(model), largest_reply=None)
    question = replace(to_ask(request.messages, request, replace(options, store=store)), stored=stored)
    return await _send(server, question)


async def _send(server: Server, question: Ask) -> Answer:
    stopwatch = _Stopwatch()
    async with ObservedCall(stopwatch, server.config, event_labels("doctor", server.transport.url)) as call:
        await call.emit_request(question, len(question.items), lambda: encode(question))
        turn = await Rounds(server, call, Retries(server.transport, server.config, call)).reply(question)
    first = None if stopwatch.first is None else stopwatch.first - stopwatch.started
    return Answer(turn, question.options.family, time.monotonic() - stopwatch.started, first)
