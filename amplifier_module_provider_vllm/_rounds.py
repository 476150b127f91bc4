"""The rounds of one completion: each retried as a unit, cut-off ones carried on, until the reply is whole."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from amplifier_core.llm_errors import (
    AbortError,
    ContextLengthError,
    LLMError,
    NetworkError,
    NotFoundError,
    ProviderUnavailableError,
    StreamError,
)
from amplifier_core.utils.retry import RetryConfig, retry_with_backoff

from ._constants import CONNECT_TIMEOUT, PROVIDER
from ._continuation import NextRound, next_round, summed
from ._errors import cut_stream, empty_reply, failed_reply, failed_stream, unknown_model
from ._harmony.count import count_usage, is_counted
from ._observability import ObservedCall
from ._options import CallOptions
from ._responses.encode import Params
from ._responses.fold import ResponsesFold
from ._server import Server
from ._turn import Status, Turn

logger = logging.getLogger(__name__)

T = TypeVar("T")

UNLIMITED_ATTEMPTS = 1_000_000


class Rounds:
    """What the rounds of one call share: their patience, and the stream that is seen of them."""

    def __init__(self, server: Server, call: ObservedCall) -> None:
        self._server = server
        self._config = server.config
        self._call = call
        self._closings = server.transport.closings
        self._failing_since = 0.0
        self._empty_replies = 0

    async def reply(self, params: Params, options: CallOptions) -> Turn:
        """The whole reply to a request. Raises `LLMError` where no patience is left to get it."""
        continuations = 0 if options.capped_by_caller else self._config.max_continuations
        turn, following = await self._retried_round(NextRound(params), options, continuations > 0)
        usage = turn.usage
        if self._config.enable_state and following is None:
            self._server.stored.remember(params, turn, harmony=options.harmony)
        while following is not None:
            continuations -= 1
            turn, following = await self._retried_round(following, options, continuations > 0)
            usage = summed(usage, turn.usage)
        return replace(turn, usage=usage)

    async def retried(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The operation's result, with Amplifier's own backoff between its failures."""
        config = self._config
        retries = RetryConfig(
            max_retries=UNLIMITED_ATTEMPTS if config.startup_timeout else config.max_retries,
            initial_delay=config.min_retry_delay,
            max_delay=config.max_retry_delay,
            jitter=config.retry_jitter,
        )

        async def attempt() -> T:
            self._check_open()
            return await operation()

        return await retry_with_backoff(attempt, retries, on_retry=self._before_retry)

    def _check_open(self) -> None:
        if self._server.transport.closings != self._closings:
            raise AbortError("the provider was closed during the call", provider=PROVIDER, model=self._call.model)

    async def _before_retry(self, attempt: int, delay: float, error: LLMError) -> None:
        """Say that there will be a retry, or raise the error where there is no point in one.

        A server that cannot be reached at all is given up within the connect timeout, unless it may be starting.
        """
        self._check_open()
        if attempt == 1:
            self._failing_since = time.monotonic()
        waited = time.monotonic() - self._failing_since + delay
        starting = isinstance(error, ProviderUnavailableError) and waited <= self._config.startup_timeout
        unreachable = isinstance(error, NetworkError) and waited > CONNECT_TIMEOUT
        if not starting and (unreachable or attempt > self._config.max_retries):
            raise error
        await self._call.retrying(attempt, delay, error)

    async def _retried_round(
        self, asked: NextRound, options: CallOptions, may_continue: bool
    ) -> tuple[Turn, NextRound | None]:
        return await self.retried(lambda: self._round(asked, options, may_continue))

    async def _round(self, asked: NextRound, options: CallOptions, may_continue: bool) -> tuple[Turn, NextRound | None]:
        """One attempt: what it brought, and the round that goes on with it. Raises `LLMError` if it broke."""
        async with self._call.stream as stream, self._lessons(options.model):
            fold = ResponsesFold(asked.before, may_continue=may_continue)
            if asked.before and not stream.visible:
                await stream.show(fold.replayed())
            await self._fold(fold, asked.params)
            turn = await self._counted(self._ended(fold, options.model), asked.params, options)
            following = self._following(asked, turn, options) if may_continue else None
            if following is None and not turn.items:
                self._empty_replies += 1
                raise empty_reply(turn, options.model, retryable=self._empty_replies == 1)
            again = following is not None and following.before == asked.before
            if following is None or again:
                await stream.show(fold.closed())
            if again:
                await stream.abort(StreamError("the reply was cut off; it is asked again with more room"))
            return turn, following

    async def _fold(self, fold: ResponsesFold, params: Params) -> None:
        """Fold a round; what the server was to remember and does not have is sent again, whole."""
        if not self._config.enable_state:
            await self._watch(fold, params)
            return
        stored = self._server.stored
        sent = stored.shortened(params)
        try:
            await self._watch(fold, sent)
        except NotFoundError:
            if sent is params:
                raise
            stored.forget(sent["previous_response_id"])
            await self._watch(fold, params)
        else:
            if sent is not params:
                stored.found()

    async def _watch(self, fold: ResponsesFold, params: Params) -> None:
        """Show the hooks what arrives; none of them is waited for while a read's deadline runs.

        vLLM 0.32 breaks the stream of a request whose schema its grammar cannot take; asked for the whole reply to it,
        it says what is wrong.
        """
        try:
            return await self._read(fold, params)
        except StreamError:
            if "text" not in params or not params["stream"] or self._call.stream.visible:
                raise
        return await self._read(fold, {**params, "stream": False})

    async def _read(self, fold: ResponsesFold, params: Params) -> None:
        async with aclosing(self._server.transport.batches(params, self._config.stream_idle_timeout)) as batches:
            async for events in batches:
                await self._call.stream.show(fold.push_all(events))

    def _ended(self, fold: ResponsesFold, model: str) -> Turn:
        if fold.error is not None:
            raise failed_stream(fold.error, model, fold.error_code)
        if fold.turn is None:
            raise cut_stream(model)
        if fold.turn.status is Status.FAILED:
            raise failed_reply(fold.turn, model)
        return fold.turn

    async def _counted(self, turn: Turn, params: Params, options: CallOptions) -> Turn:
        """The turn with the server's counts; with ours where it gave none for gpt-oss, as vLLM 0.10 does."""
        if is_counted(turn.usage):
            return turn
        encoding = await self._server.vocabulary.encoding() if options.harmony else None
        if encoding is None:
            return replace(turn, usage=None)
        usage = await asyncio.to_thread(count_usage, encoding, params, turn)
        logger.info("[TOKEN_ACCOUNTING] Injected usage: input=%s, output=%s", usage.input_tokens, usage.output_tokens)
        return replace(turn, usage=usage)

    def _following(self, asked: NextRound, turn: Turn, options: CallOptions) -> NextRound | None:
        limits = self._server.limits(options.model)
        window = limits.context_window if limits.known else None
        return next_round(asked.params, turn, asked.before, window=window, harmony=options.harmony)

    @asynccontextmanager
    async def _lessons(self, model: str) -> AsyncIterator[None]:
        """Remember what a refusal says of the server, and let it say what the server has."""
        try:
            yield
        except ContextLengthError as error:
            self._server.learn(model, error)
            raise
        except NotFoundError as error:
            served = [card.id for card in self._server.cards]
            if served and model not in served:
                raise unknown_model(error, served) from error
            raise
