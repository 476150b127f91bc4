"""The rounds of one call: each is retried as a unit, and truncated ones are continued until the reply is complete."""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from amplifier_core.llm_errors import AbortError, ContextLengthError, LLMError, NotFoundError, StreamError

from ._ask import Ask, continued, unstreamed, with_more_room
from ._blocks import Blocks, to_updates
from ._endpoint import Fold
from ._endpoints import endpoint_of
from ._errors import (
    empty_reply,
    failed_reply,
    failed_stream,
    is_empty_not_found,
    restarting,
    to_llm_error,
    truncated_stream,
    unknown_model,
)
from ._harmony.count import count_usage
from ._observability import ObservedCall
from ._options import CallOptions
from ._retries import Retries
from ._secrets import Secrets, hidden_secrets, shorten
from ._server import Server
from ._server_text import sanitize
from ._sizes import RefusedBodyError
from ._tool_markup import ends_in_call
from ._turn import HostedCall, Status, Text, TokenUsage, Turn, is_counted, total_usage
from ._visible_text import VisibleText

logger = logging.getLogger(__name__)

LONG_HISTORY = 1_000
"""Items. Encoding and dumping 400 messages blocks the event loop for 2.3 ms, 4,000 for 13 ms (`make bench`)."""

NO_STORE = (
    "`enable_state` is set, but the server keeps no replies, so every request has the full history: start vLLM with"
    " VLLM_ENABLE_RESPONSES_API_STORE=1, or remove the key"
)


class Rounds:
    """Runs the rounds of one call, sharing one retry budget and one hook stream."""

    def __init__(self, server: Server, call: ObservedCall, retries: Retries) -> None:
        self._server = server
        self._config = server.config
        self._call = call
        self._retries = retries
        self._empty_replies = 0
        self.continuations = 0
        """The number of rounds that continued a truncated one, or asked for it again with more room."""
        self.spent: TokenUsage | None = None
        """The usage of all rounds so far, those included whose reply was discarded."""

    async def reply(self, ask: Ask) -> Turn:
        """The reply to a request, complete unless a continuation fails. Raises `LLMError` if the first round fails."""
        limit = 0 if ask.options.capped_by_caller else self._config.max_continuations
        turn, next_ask = await self._round_with_retries(ask, limit > 0)
        if self._keeps(ask) and ask.options.store and next_ask is None:
            self._server.stored.remember(ask, turn)
        for number in range(1, limit + 1):
            if next_ask is None:
                break
            self.continuations += 1
            await self._call.emit_continuation(turn, number, limit)
            try:
                turn, next_ask = await self._round_with_retries(next_ask, number < limit)
            except AbortError:
                raise
            except LLMError as error:
                return await self._without_continuation(turn, error)
        return turn

    async def _without_continuation(self, turn: Turn, error: LLMError) -> Turn:
        """The truncated turn again, for hooks that discarded it. Raises the error if there is nothing to keep."""
        if not turn.items:
            raise error
        logger.warning("[PROVIDER] vLLM: the truncated reply of %s was not continued: %s", self._call.model, error)
        await self._call.stream.show(to_updates(turn.items))
        return turn

    async def _round_with_retries(self, ask: Ask, may_continue: bool) -> tuple[Turn, Ask | None]:
        return await self._retries.run(lambda: self._round(ask, may_continue))

    async def _round(self, ask: Ask, may_continue: bool) -> tuple[Turn, Ask | None]:
        """One attempt: its turn, and the Ask that continues it. Raises `LLMError` if the attempt fails."""
        model = ask.options.model
        async with self._call.stream as stream, self._learning_from_refusals(ask):
            blocks = Blocks(ask.reply, may_continue=may_continue, visible_text=_visible_text(ask.options))
            if ask.reply and not stream.visible:
                await stream.show(blocks.replay())
            fold = endpoint_of(ask).fold(blocks, ask, None)
            try:
                await self._with_stored_state(fold, ask)
                turn = await self._counted(self._without_secrets(_turn_of(fold, model), ask), ask)
            except LLMError as error:
                if any(isinstance(item, HostedCall) and item.server for item in blocks.items[len(ask.reply) :]):
                    error.retryable = False  # another attempt would run the MCP server's tools again
                raise
            next_ask = self._next_ask(ask, turn) if may_continue else None
            if next_ask is None and not turn.items:
                self._empty_replies += 1
                raise empty_reply(turn, model, retryable=self._empty_replies == 1)
            is_repeat = next_ask is not None and next_ask.reply == ask.reply
            if next_ask is None or is_repeat:
                await stream.show(blocks.close())
            if blocks.discarded and stream.visible:
                await stream.abort(StreamError("the server ran a call itself; the reply is streamed again without it"))
                if next_ask is None:  # else the next round shows the reply so far
                    await stream.show(to_updates(turn.items))
            if is_repeat:
                await stream.abort(StreamError("the reply was truncated; it is requested again with more room"))
            return turn, next_ask

    async def _with_stored_state(self, fold: Fold[Any], ask: Ask) -> None:
        """Stream a round from a stored reply if there is one; if the server lost it, send the full history."""
        found = self._server.stored.find(ask) if self._keeps(ask) else None
        if found is None:
            await self._with_schema_reason(fold, ask)
            return
        try:
            await self._with_schema_reason(fold, replace(ask, stored=found))
            if fold.failure is not None:
                raise failed_stream(fold.failure, ask.options.model)
        except NotFoundError as error:
            if is_empty_not_found(error):
                raise
            fold.failure = None
            if self._server.stored.forget(found):
                self._server.warn_once(NO_STORE)
            await self._with_schema_reason(fold, ask)
        else:
            self._server.stored.reset_misses()

    def _keeps(self, ask: Ask) -> bool:
        return self._config.enable_state and endpoint_of(ask).keeps_replies

    async def _with_schema_reason(self, fold: Fold[Any], ask: Ask) -> None:
        """Stream a round; if it has a schema and the stream breaks, ask again unstreamed, to get the reason.

        vLLM 0.32 breaks the stream if its grammar does not support the schema; only the unstreamed request gets the
        error message.
        """
        try:
            return await self._stream(fold, ask)
        except StreamError:
            if ask.prompt.format is None or not ask.options.stream or self._call.stream.visible:
                raise
        return await self._stream(fold, unstreamed(ask))

    async def _stream(self, fold: Fold[Any], ask: Ask) -> None:
        """Stream one round to the hooks. Hook time does not count against the read timeout."""
        if ask.options.store:
            # Gateways with a store of their own keep the ids of all conversations in one table (agentic-api 0.9).
            ask = replace(ask, item_ids=uuid.uuid4().hex)
        endpoint = endpoint_of(ask)
        body = endpoint.encode(ask)
        if len(ask.prompt.items) > LONG_HISTORY:
            await asyncio.sleep(0)  # the encoding and the SDK's dump of it block: let other tasks run between
            self._retries.check_open()  # they may have closed the provider
        batches = self._server.transport.batches(
            endpoint, body, ask.options.extra_headers, self._config.stream_idle_timeout
        )
        async with aclosing(batches):
            async for events in batches:
                # A pool of httpcore 1 that is closed leaves a connection open that was being made.
                self._retries.check_open()
                await self._call.stream.show(fold.push_all(events))
        await self._call.stream.show(fold.end())

    async def _counted(self, turn: Turn, ask: Ask) -> Turn:
        """The turn with its usage, which is added to that of the call. Raises `LLMError` for a failed turn."""
        if turn.status is not Status.FAILED:
            turn = await self._with_usage(turn, ask)
        if self.spent is None:
            self._warn_of_truncation(turn, ask)
        self.spent = total_usage(self.spent, turn.usage)
        if turn.status is Status.FAILED:
            raise failed_reply(turn, ask.options.model)
        return turn

    def _warn_of_truncation(self, turn: Turn, ask: Ask) -> None:
        """Warn of a prompt that fills the window: the server removes its start without a word."""
        window, usage = self._server_window(ask), turn.usage
        if ask.options.truncation == "auto" and usage is not None and window is not None and _fills(turn, window):
            logger.warning(
                "[PROVIDER] vLLM: with `truncation: auto` %s was given %s of %s tokens as the prompt, and replied with"
                " %s: the start of the conversation may have been cut off",
                *(ask.options.model, f"{usage.input_tokens:,}", f"{window:,}", f"{usage.output_tokens:,}"),
            )

    def _server_window(self, ask: Ask) -> int | None:
        limits = self._server.limits(ask.options.model)
        return limits.context_window if limits.from_server else None

    async def _with_usage(self, turn: Turn, ask: Ask) -> Turn:
        """The turn with the server's counts; for gpt-oss with ours if it gave none, as vLLM 0.10 does."""
        if is_counted(turn.usage):
            return turn
        ours = ask.options.family.rendering == "harmony"
        encoding = await self._server.vocabulary.encoding() if ours else None
        if encoding is None:
            return replace(turn, usage=None)
        usage = await asyncio.to_thread(count_usage, encoding, ask, turn)
        logger.info("[TOKEN_ACCOUNTING] Injected usage: input=%s, output=%s", usage.input_tokens, usage.output_tokens)
        return replace(turn, usage=usage)

    def _next_ask(self, ask: Ask, turn: Turn) -> Ask | None:
        """The Ask that completes a reply truncated by its output cap; None if it would gain nothing.

        A truncated text continues where it stopped. A truncated reasoning or call cannot, and a text bound by a schema
        would start its JSON again: these are asked again with the rest of the window. In an unstreamed reply a
        truncated call is text with the start of its markup.
        """
        if not turn.truncated:
            return None
        window = self._server_window(ask)
        last = turn.items[-1] if turn.items else None
        family = ask.options.family
        continues = family.continues_text and ask.prompt.format is None
        if isinstance(last, Text) and continues and not (ask.may_call_tools and ends_in_call(last, family)):
            return None if _fills(turn, window) else continued(ask, turn)
        # Asked again, the server would run its calls again.
        return None if turn.hosted_calls else with_more_room(ask, turn, window)

    def _without_secrets(self, turn: Turn, ask: Ask) -> Turn:
        """The turn without secrets in the server's reasons; those for truncation are words that we know."""
        if turn.unavailable:
            hide = self._secrets(ask).hide
            reasons = [(sanitize(label), shorten(sanitize(hide(reason)))) for label, reason in turn.unavailable]
            turn = replace(turn, unavailable=tuple(reasons))
        if turn.incomplete_reason is None or turn.truncated:
            return turn
        return replace(turn, incomplete_reason=self._secrets(ask).hide(turn.incomplete_reason))

    def _secrets(self, ask: Ask) -> Secrets:
        return self._server.transport.secrets(ask.options.extra_headers)

    @asynccontextmanager
    async def _learning_from_refusals(self, ask: Ask) -> AsyncGenerator[None]:
        """Learn the window from a refusal, and add what we know to an error: the served models, the server's URL."""
        model = ask.options.model
        with hidden_secrets(lambda: self._secrets(ask)):
            try:
                yield
            except RefusedBodyError as error:
                raise to_llm_error(error, ask.options.model, self._server.transport.url) from error
            except ContextLengthError as error:
                self._server.learn(model, error)
                raise
            except NotFoundError as error:
                served = [card.id for card in self._server.cards]
                if is_empty_not_found(error) and (model in served or self._config.startup_timeout):
                    raise restarting(error) from error
                self._server.outdated = model in served
                if served and model not in served:
                    raise unknown_model(error, served) from error
                raise


def _visible_text(options: CallOptions) -> Callable[[], VisibleText] | None:
    """The filter for the texts of a round; None for a family whose texts vLLM cuts itself."""
    if options.family.rendering != "harmony":
        return None
    return lambda: VisibleText(options.hidden_stop_strings)


def _turn_of(fold: Fold[Any], model: str) -> Turn:
    if fold.failure is not None:
        raise failed_stream(fold.failure, model)
    if fold.turn is None:
        raise truncated_stream(model)
    return fold.turn


def _fills(turn: Turn, window: int | None) -> bool:
    """Whether the prompt and the reply fill the window, in tokens."""
    # A gateway that runs calls adds up the prompts of its own rounds.
    usage = None if turn.hosted_calls else turn.usage
    return usage is not None and window is not None and usage.input_tokens + usage.output_tokens >= window
