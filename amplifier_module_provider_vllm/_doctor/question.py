"""Ask a model something as a session would, once, and note what came back and when."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from amplifier_core.message_models import ChatRequest, Message

from .._ask import Ask, StoredReply, to_ask
from .._config import Config
from .._endpoint import Endpoint
from .._endpoints import encode, endpoint_of, fitted
from .._family import Family
from .._observability import ObservedCall, event_labels
from .._options import decide_options
from .._retries import Retries
from .._rounds import Rounds
from .._server import Server
from .._turn import Item, Text, Turn

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
    endpoint: Endpoint[Any]
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


async def ask(server: Server, text: str, **fields: Any) -> Answer:
    """The reply to one question; `fields` are those of `question()`."""
    return await send(server, await question(server, text, **fields))


async def question(
    server: Server,
    text: str,
    *,
    history: Sequence[Message] = (),
    reply: tuple[Item, ...] = (),
    store: bool = False,
    stored: StoredReply | None = None,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    max_tokens: int = MAX_TOKENS,
    **fields: Any,
) -> Ask:
    """A question after a history, with further `fields` of Amplifier's request.

    `reply`: the truncated reply that the server is to continue; `store`: it is to keep its reply; `stored`: the kept
    reply that the question goes on from; `parameters`: further keys of the body.
    """
    model = await server.model(server.config.default_model)
    request = ChatRequest(
        messages=[*history, Message(role="user", content=text)],
        max_output_tokens=min(max_tokens, server.limits(model).max_output_tokens),
        temperature=0.0,
        **fields,
    )
    overrides = {"extra_request_params": dict(parameters)}
    options = decide_options(
        request,
        overrides,
        server.config,
        model=model,
        family=server.family(model),
        largest_reply=None,
        has_responses=server.has_responses,
    )
    asked = to_ask(request.messages, request, replace(options, store=store))
    return fitted(replace(asked, stored=stored, reply=reply))


async def send(server: Server, asked: Ask) -> Answer:
    stopwatch = _Stopwatch()
    labels = event_labels("doctor", server.transport.url)
    async with ObservedCall(stopwatch, server.config, labels, server.transport.secrets) as call:
        await call.emit_request(asked, len(asked.items), lambda: encode(asked))
        turn = await Rounds(server, call, Retries(server.transport, server.config, call)).reply(asked)
    first = None if stopwatch.first is None else stopwatch.first - stopwatch.started
    return Answer(turn, asked.options.family, endpoint_of(asked), time.monotonic() - stopwatch.started, first)
