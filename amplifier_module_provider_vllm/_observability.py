"""Emit the hook events of a call: the only module that knows their names and payloads."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Protocol, Self, assert_never

from amplifier_core.llm_errors import LLMError
from amplifier_core.message_models import ChatResponse
from amplifier_core.utils.truncate import truncate_values

from ._ask import Ask
from ._config import Config
from ._constants import PROVIDER
from ._options import CallOptions
from ._redaction import redacted
from ._secrets import Secrets
from ._strict_json import read_json
from ._tool_repair import RepairedHistory
from ._turn import Turn
from ._updates import BlockDelta, BlockEnd, BlockKind, BlockStart, Update

logger = logging.getLogger(__name__)

EVENTS: Final = [
    "llm:stream_block_start",
    "llm:stream_block_delta",
    "llm:stream_block_end",
    "llm:stream_aborted",
    "provider:incomplete_continuation",
    "llm:request:debug",
    "llm:response:debug",
    "llm:request:raw",
    "llm:response:raw",
]
"""Events outside the kernel's ALL_EVENTS; hook loggers get them only if a module contributes them."""


EMISSION_TIMEOUT: Final = 0.05
"""Seconds that a cancelled call waits for the listeners of its last event, which may hang."""


class Hooks(Protocol):
    async def emit(self, event: str, data: dict[str, Any], /) -> Any: ...


class NoHooks:
    """Discards every event, so that no call site needs an `if`."""

    async def emit(self, _event: str, _data: dict[str, Any], /) -> None:
        return None


@dataclass(frozen=True, slots=True)
class OrderedHooks:
    """Emits an event whole, or not at all: a listener hears no event after a later one.

    The kernel runs its listeners in a task of its own, which may begin after the call that emitted is cancelled.
    """

    hooks: Hooks

    async def emit(self, event: str, data: dict[str, Any], /) -> None:
        emission = asyncio.ensure_future(self.hooks.emit(event, data))
        try:
            await asyncio.shield(emission)
        finally:
            if not emission.done():
                await asyncio.wait({emission}, timeout=EMISSION_TIMEOUT)
                emission.cancel()


@dataclass(slots=True)
class ObservedCall:
    """The events of one call: `llm:request`, then exactly one `llm:response`, all with the same request_id.

    A call that fails before its request is built still emits `llm:response`.
    """

    hooks: Hooks
    config: Config
    labels: Mapping[str, Any]
    """Payload keys that identify the instance: provider, instance, base_url."""
    secrets: Callable[[Mapping[str, str]], Secrets]
    """What no debug event may repeat, for a call with these headers."""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    stream: "ObservedStream" = field(init=False)
    _options: CallOptions | None = None
    _started: float = field(default_factory=time.monotonic)
    _response: ChatResponse | None = None
    _raw: bytes = b""
    _continuations: int = 0

    def __post_init__(self) -> None:
        self.stream = ObservedStream(NoHooks(), self.request_id)

    @property
    def model(self) -> str | None:
        """The model that is asked, once it is known."""
        return None if self._options is None else self._options.model

    async def __aenter__(self) -> Self:
        return self

    async def emit_request(self, ask: Ask, messages: int, body: Callable[[], Mapping[str, Any]]) -> None:
        """Emit `llm:request`, for a request of so many messages.

        `body` encodes the JSON body; it is called only if a debug event includes it.
        """
        options = self._options = ask.options
        if options.stream:
            self.stream = ObservedStream(self.hooks, self.request_id)
        payload = {
            "message_count": messages,
            "has_instructions": ask.prompt.instructions is not None,
            "tool_count": len(ask.prompt.tools) + len(options.hosted_tools) if ask.may_call_tools else 0,
            "max_output_tokens": options.max_output_tokens,
            "reasoning_effort": options.reasoning_effort,
            "reasoning_enabled": options.reasoning_effort not in (None, "none"),
            "stream": options.stream,
        }
        logger.debug("[PROVIDER] vLLM: asking %s with %d items", options.model, len(ask.items))
        headers = {"extra_headers": dict(options.extra_headers)} if options.extra_headers else {}
        await self._emit_with_dumps("llm:request", payload, "request", lambda: {**body(), **headers})

    def set_response(self, response: ChatResponse, raw: bytes) -> None:
        """Set the content of `llm:response`; `raw`: the server's raw reply to the last round."""
        self._response, self._raw = response, raw

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        ending = asyncio.ensure_future(self._emit_end(error))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:  # cancelled during the final events: emit them all the same
            await ending
            raise

    async def _emit_end(self, error: BaseException | None) -> None:
        if error is not None:
            await self.stream.abort(error)
        payload: dict[str, Any] = {"duration_ms": round((time.monotonic() - self._started) * 1000)}
        logger.debug(
            "[PROVIDER] vLLM: %s after %d ms", type(error).__name__ if error else "reply", payload["duration_ms"]
        )
        if self._response is not None:
            payload |= {"status": "ok", "finish_reason": self._response.finish_reason, "usage": _usage(self._response)}
            payload |= {"continuation_count": self._continuations}
            await self._emit_with_dumps("llm:response", payload, "response", lambda: read_json(self._raw))
            return
        if isinstance(error, asyncio.CancelledError):
            payload |= {"status": "cancelled"}
        else:
            payload |= {"status": "error", "error": _error_payload(error)}
        await self._emit("llm:response", payload)

    async def emit_repair(self, history: RepairedHistory) -> None:
        """Emit and log the repairs of a history, if there are any."""
        repaired = [*history.unanswered, *history.orphaned]
        if not repaired:
            return
        logger.warning("[PROVIDER] vLLM: the history was repaired: %s", history.summary)
        payload = {
            "unanswered_calls": history.unanswered,
            "orphaned_results": history.orphaned,
            "repair_count": len(repaired),
            "repairs": [{"tool_call_id": one, "tool_name": history.tools.get(one, "unknown")} for one in repaired],
        }
        await self._emit("provider:tool_sequence_repaired", payload)

    async def emit_continuation(self, turn: Turn, number: int, limit: int) -> None:
        """Emit `provider:incomplete_continuation`: the reply was truncated, and goes on with another round."""
        self._continuations = number
        payload = {"response_id": turn.response_id, "reason": turn.incomplete_reason}
        counts = {"continuation_number": number, "max_attempts": limit}
        await self._emit("provider:incomplete_continuation", payload | counts)

    async def emit_tokens(self, payload: Mapping[str, Any]) -> None:
        """Emit `llm:tokens`. No module contributes it to the event logs: it would fill them."""
        await self._emit("llm:tokens", {**payload})

    async def emit_retry(self, attempt: int, delay: float, error: LLMError, max_retries: int) -> None:
        payload = {"attempt": attempt, "max_retries": max_retries, "delay": delay}
        # Not under the key `error`: Amplifier's logging hook would write the line at level ERROR.
        failure = {"error_type": type(error).__name__, "error_message": str(error)}
        answer = {"retry_after": error.retry_after, "status_code": error.status_code}
        await self._emit("provider:retry", payload | answer | failure)

    async def _emit(self, event: str, payload: dict[str, Any]) -> None:
        model = {} if self.model is None else {"model": self.model}
        await self.hooks.emit(event, {**self.labels, **model, "request_id": self.request_id, **payload})

    async def _emit_with_dumps(self, event: str, payload: dict[str, Any], key: str, content: Callable[[], Any]) -> None:
        """Emit the event and its debug events with the redacted content, if and as the config asks for it."""
        wanted = self.config.raw or self.config.debug or self.config.raw_debug
        headers: Mapping[str, str] = {} if self._options is None else self._options.extra_headers
        content_dump = redacted(content, self.secrets(headers)) if wanted else None
        await self._emit(event, payload | ({"raw": content_dump} if self.config.raw else {}))
        if self.config.debug:
            truncated = truncate_values(content_dump, self.config.debug_truncate_length)
            await self._emit(f"{event}:debug", payload | {key: truncated})
        if self.config.raw_debug:
            await self._emit(f"{event}:raw", {key: content_dump})


@dataclass(slots=True)
class ObservedStream:
    """The stream events of one call, after Amplifier's streaming contract; entered once for each attempt.

    An attempt that breaks after its first event emits `llm:stream_aborted`; the next one starts a new index space.
    """

    hooks: Hooks
    request_id: str
    _sequences: dict[int, int] = field(default_factory=dict[int, int])
    _open: dict[int, BlockKind] = field(default_factory=dict[int, BlockKind])

    @property
    def visible(self) -> bool:
        return bool(self._sequences)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            await self.abort(error)

    async def abort(self, error: BaseException) -> None:
        """End the open blocks and the attempt, if the hooks have seen any of it."""
        if self.visible:
            await self.show([BlockEnd(index, kind) for index, kind in self._open.items()])
            self._sequences.clear()
            await self.hooks.emit("llm:stream_aborted", {"request_id": self.request_id, "error": _error_payload(error)})

    async def show(self, updates: Iterable[Update]) -> None:
        for update in updates:
            await self._update(update)

    async def _update(self, update: Update) -> None:
        labels = {"request_id": self.request_id, "block_index": update.index, "block_type": update.kind}
        match update:
            case BlockStart(index=index, name=name):
                self._sequences[index] = 0
                await self.hooks.emit("llm:stream_block_start", labels if name is None else labels | {"name": name})
                self._open[index] = update.kind
            case BlockDelta(index=index, text=text):
                sequence = self._sequences[index]
                self._sequences[index] += 1
                await self.hooks.emit("llm:stream_block_delta", labels | {"sequence": sequence, "text": text})
            case BlockEnd(index=index):
                self._open.pop(index, None)
                await self.hooks.emit("llm:stream_block_end", labels)
            case _:
                assert_never(update)


def event_labels(instance: str, base_url: str) -> dict[str, str]:
    """The payload keys of every event of a call, which identify the instance."""
    return {"provider": PROVIDER, "instance": instance, "base_url": base_url}


def _error_payload(error: BaseException | None) -> dict[str, str]:
    return {"type": type(error).__name__, "msg": str(error)}


def _usage(response: ChatResponse) -> dict[str, Any]:
    """The counts that there are; the price always, as sibling providers have it."""
    usage = {} if response.usage is None else response.usage.model_dump(mode="json", exclude_none=True)
    return {"cost_usd": None, **usage}
