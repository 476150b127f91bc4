"""One completion, from the request to the reply, in the order it happens."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from amplifier_core.llm_errors import (
    ContextLengthError,
    InvalidToolCallError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    NotFoundError,
)
from amplifier_core.message_models import ChatRequest, ChatResponse
from amplifier_core.utils.retry import RetryConfig, retry_with_backoff

from ._constants import CONNECT_TIMEOUT, PROVIDER
from ._errors import cut_stream, empty_reply, failed_reply, failed_stream, unknown_model
from ._observability import ObservedCall
from ._options import decide_options, first_set
from ._response_handling import to_response
from ._responses.encode import Params, encode_request
from ._responses.fold import ResponsesFold
from ._server import Server
from ._tool_repair import repair_tool_sequence
from ._turn import Status, Turn
from ._updates import merged

T = TypeVar("T")

UNLIMITED_ATTEMPTS = 1_000_000


class Completion:
    """One call of `complete()`, retried as a unit until it has a reply or an error that is worth raising."""

    def __init__(self, server: Server, call: ObservedCall, request: ChatRequest, overrides: Mapping[str, Any]) -> None:
        self._server = server
        self._config = server.config
        self._call = call
        self._request = request
        self._overrides = overrides
        self._empty_replies = 0
        self._started = time.monotonic()

    async def run(self) -> ChatResponse:
        timeout = first_set(self._overrides.get("timeout"), self._request.timeout, self._config.timeout)
        deadline = asyncio.timeout(timeout)
        async with self._call:
            try:
                async with deadline:
                    return await self._answer()
            except TimeoutError as error:
                if not deadline.expired():
                    raise
                raise LLMTimeoutError(f"no reply within the timeout of {timeout} s", provider=PROVIDER) from error

    async def _answer(self) -> ChatResponse:
        request, server = self._request, self._server
        model = await self._retried(self._model)
        options = decide_options(
            request,
            self._overrides,
            self._config,
            model=model,
            advertised_output=server.limits(model).max_output_tokens if server.limits(model).known else None,
        )
        repaired = repair_tool_sequence(request.messages)
        encoded = encode_request(repaired.messages, request, options)
        await self._call.requested(options, encoded.params)
        await self._call.repaired(repaired)
        turn = await self._retried(lambda: self._round(encoded.params))
        try:
            response = to_response(turn, request.tools or [], self._config.rates, encoded.degradations)
        except InvalidToolCallError as error:
            error.model = model
            raise
        self._call.answered(response)
        return response

    async def _model(self) -> str:
        asked = first_set(self._overrides.get("model"), self._request.model, self._config.default_model)
        return await self._server.model(asked)

    async def _round(self, params: Params) -> Turn:
        """One attempt, with what its failure teaches. Raises `LLMError` unless the server ended it with a reply."""
        model = params["model"]
        try:
            return self._ended(await self._folded(params), model)
        except ContextLengthError as error:
            self._server.learn(model, error)
            raise
        except NotFoundError as error:
            served = [card.id for card in self._server.cards]
            if served and model not in served:
                raise unknown_model(error, served) from error
            raise

    async def _folded(self, params: Params) -> ResponsesFold:
        """What one attempt brought, in a fold and blocks of its own, seen by the hooks as it arrived."""
        fold = ResponsesFold()
        batches = self._server.transport.batches(params, self._config.stream_idle_timeout)
        async with self._call.round() as observed, aclosing(batches):
            async for events in batches:
                for update in merged(update for event in events for update in fold.push(event)):
                    await observed.update(update)
        return fold

    def _ended(self, fold: ResponsesFold, model: str) -> Turn:
        if fold.error is not None:
            raise failed_stream(fold.error, model)
        turn = fold.turn
        if turn is None:
            raise cut_stream(model)
        if turn.status is Status.FAILED:
            raise failed_reply(turn, model)
        if not turn.items:
            self._empty_replies += 1
            raise empty_reply(turn, model, retryable=self._empty_replies == 1)
        return turn

    async def _retried(self, operation: Callable[[], Awaitable[T]]) -> T:
        config = self._config
        retries = RetryConfig(
            max_retries=UNLIMITED_ATTEMPTS if config.startup_timeout else config.max_retries,
            initial_delay=config.min_retry_delay,
            max_delay=config.max_retry_delay,
            jitter=config.retry_jitter,
        )
        return await retry_with_backoff(operation, retries, on_retry=self._before_retry)

    async def _before_retry(self, attempt: int, delay: float, error: LLMError) -> None:
        """Say that there will be a retry, or raise the error where there is no point in one."""
        waited = time.monotonic() - self._started + delay
        if isinstance(error, NetworkError):
            if waited > max(CONNECT_TIMEOUT, self._config.startup_timeout):
                raise error
        elif attempt > self._config.max_retries:
            raise error
        await self._call.retrying(attempt, delay, error)
