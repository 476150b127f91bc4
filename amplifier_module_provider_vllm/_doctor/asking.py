"""Ask a model something as a session would, once, and note what came back and when."""

import time
from dataclasses import dataclass, field
from typing import Any

from amplifier_core.message_models import ChatRequest, Message

from .._config import Config
from .._limits import pick_model
from .._observability import ObservedCall, described
from .._options import decide_options
from .._responses.encode import encode_request
from .._rounds import Rounds
from .._server import Server
from .._turn import Text, Turn

MOST_TOKENS = 1024
MOST_PATIENCE = 60.0
"""Seconds without a byte; a session would wait longer, but somebody is looking at this."""


def once(config: Config) -> Config:
    """The same config without retries, continuations and stored replies: what fails is to be seen."""
    patience = min(config.stream_idle_timeout, MOST_PATIENCE)
    once = {"max_retries": 0, "startup_timeout": 0, "max_continuations": 0, "enable_state": False}
    return config.model_copy(update={**once, "stream_idle_timeout": patience})


@dataclass(slots=True)
class _Clock:
    """Stands where a session's hooks stand, and notes when the first of the reply was seen."""

    started: float = field(default_factory=time.monotonic)
    first: float | None = None

    async def emit(self, event: str, _data: dict[str, Any], /) -> None:
        if event == "llm:stream_block_delta" and self.first is None:
            self.first = time.monotonic()


@dataclass(frozen=True, slots=True)
class Heard:
    turn: Turn
    seconds: float
    seconds_to_first: float | None
    """None where nothing was streamed."""

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.turn.items if isinstance(item, Text)).strip()

    @property
    def quoted(self) -> str:
        """The beginning of the text, or that it was cut off before there was any."""
        if self.turn.cut_off and not self.text:
            return f"nothing within {MOST_TOKENS} tokens"
        return repr(self.text if len(self.text) <= 80 else f"{self.text[:80]}…")


async def ask(
    server: Server, text: str, *, system: str | None = None, params: dict[str, Any] | None = None, **asked: Any
) -> Heard:
    """The reply to one question; `params` go to the server as they are, the rest is Amplifier's request."""
    model = pick_model(server.config.default_model, server.cards, server.transport.url)
    messages = [Message(role="system", content=system)] if system else []
    request = ChatRequest(
        messages=[*messages, Message(role="user", content=text)],
        max_output_tokens=min(MOST_TOKENS, server.limits(model).max_output_tokens),
        temperature=0.0,
        **asked,
    )
    options = decide_options(
        request, {}, server.config, model=model, harmony=server.harmony(model), advertised_output=None
    )
    sent = encode_request(request.messages, request, options).params | (params or {})
    clock = _Clock()
    async with ObservedCall(clock, server.config, described("doctor", server.transport.url)) as call:
        await call.requested(options, sent)
        turn = await Rounds(server, call).reply(sent, options)
    first = None if clock.first is None else clock.first - clock.started
    return Heard(turn, time.monotonic() - clock.started, first)
