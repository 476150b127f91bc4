"""The rounds of one call: each is retried as a unit, and truncated ones are continued until the reply is complete."""

import asyncio
import logging
import uuid
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from amplifier_core.llm_errors import AbortError, LLMError, NotFoundError, StreamError

from ._ask import Ask, continued_by_tokens, unstreamed
from ._blocks import to_updates
from ._endings import all_tokens, fills, joined, may_continue_exactly, next_ask, was_cut
from ._endpoint import Fold
from ._endpoints import endpoint_of
from ._errors import empty_reply, failed_reply, failed_stream, truncated_stream
from ._harmony.count import count_usage
from ._learning import learning_from_refusals
from ._observability import ObservedCall
from ._openings import opened
from ._refusals import is_empty_not_found, is_missing_path, may_go_on_by_items
from ._rendering import with_reply_text
from ._retries import Retries
from ._secrets import Secrets, shorten
from ._server import Server
from ._server_text import sanitize
from ._stored_replies import NO_STORE
from ._token_event import NO_TOKENS, token_payload
from ._token_in import as_taken
from ._turn import HostedCall, Item, ReplyTokens, Status, TokenUsage, Turn, is_counted, total_usage

logger = logging.getLogger(__name__)

LONG_HISTORY = 1_000
"""Items. Encoding and dumping 400 messages blocks the event loop for 2.3 ms, 4,000 for 13 ms (`make bench`)."""


class Rounds:
    """Runs the rounds of one call, sharing one retry budget and one hook stream."""

    def __init__(self, server: Server, call: ObservedCall, retries: Retries) -> None:
        self._server = server
        self._config = server.config
        self._call = call
        self._retries = retries
        self._empty_replies = 0
        self._told: list[ReplyTokens] = []
        """The rounds whose tokens the session was told."""
        self._unsettled: Fold[Any] | None = None
        """The fold of the last round that succeeded."""
        self.continuations = 0
        """The number of rounds that continued a truncated one, or asked for it again with more room."""
        self.spent: TokenUsage | None = None
        """The usage of all rounds so far, those included whose reply was discarded."""

    def first(self, ask: Ask) -> Ask:
        """The first round of a request, which asks for token ids if another round may go on by them."""
        can = self._server.gives_tokens and self._server.goes_on_by_tokens
        exactly = can and self._limit(ask) > 0 and may_continue_exactly(ask)
        return replace(ask, wants_tokens=exactly)

    def _limit(self, ask: Ask) -> int:
        """The number of rounds that may continue the first one."""
        return 0 if ask.options.capped_by_caller else self._config.max_continuations

    async def reply(self, ask: Ask) -> Turn:
        """The reply to a request, complete unless a continuation fails. Raises `LLMError` if the first round fails."""
        limit, first = self._limit(ask), self.first(ask)
        turn, following = await self._round_with_retries(first, limit > 0)
        if self._keeps(ask) and ask.options.store and following is None:
            self._server.stored.remember(ask, turn)
        for number in range(1, limit + 1):
            if following is None:
                break
            self.continuations += 1
            await self._call.emit_continuation(turn, number, limit)
            try:
                turn, following = await self._continued(turn, first, following, number < limit)
            except AbortError:
                raise
            except LLMError as error:
                return await self._without_continuation(turn, error)
        return turn

    async def _continued(self, turn: Turn, first: Ask, following: Ask, may_continue: bool) -> tuple[Turn, Ask | None]:
        """The next round of a truncated reply: by its token ids, or by its items if the server cannot."""
        try:
            next_turn, after = await self._round_with_retries(following, may_continue)
        except LLMError as error:
            by_tokens = following.is_exact and may_go_on_by_items(error)
            by_items = next_ask(first, turn, self._server_window(first), exactly=False) if by_tokens else None
            if by_items is None:
                raise
            logger.info("[PROVIDER] vLLM: the reply goes on by its items, not by its token ids: %s", error)
            if is_missing_path(error):  # the next reply could not go on either
                self._server.goes_on_by_tokens = False
            following = replace(by_items, wants_tokens=False)
            next_turn, after = await self._round_with_retries(following, may_continue)
        return joined(turn, next_turn, following), after

    async def _without_continuation(self, turn: Turn, error: LLMError) -> Turn:
        """The truncated turn again, with all of its text, for hooks that discarded it.

        Raises the error if there is nothing to keep.
        """
        if self._unsettled is not None:
            turn = replace(turn, items=_settled_items(self._unsettled, turn.items))
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
        async with self._call.stream as stream, learning_from_refusals(self._server, ask):
            ask, blocks, fold = await opened(self._server, stream, ask, may_continue=may_continue)
            try:
                await self._with_stored_state(fold, ask)
                turn = await self._counted(self._without_secrets(_turn_of(fold, model), ask), ask)
            except LLMError as error:
                if any(isinstance(item, HostedCall) and item.server for item in blocks.items[len(ask.reply) :]):
                    error.retryable = False  # another attempt would run the MCP server's tools again
                raise
            ask = as_taken(self._server, ask, turn)
            turn = await _with_hidden_cut(self._server, turn, ask)
            following = next_ask(ask, turn, self._server_window(ask), exactly=True) if may_continue else None
            self._unsettled = fold
            is_repeat = following is not None and (following.reply, following.tokens) == (ask.reply, ask.tokens)
            if ask.options.token_ids and not is_repeat:
                await self._tell_tokens(ask, turn)
            if following is None and turn.truncated:
                turn = await self._settled(fold, turn)
            if following is None and not turn.items:
                self._empty_replies += 1
                raise empty_reply(turn, model, retryable=self._empty_replies == 1)
            if following is None or is_repeat:
                await stream.show(blocks.close())
            if blocks.discarded and stream.visible:
                await stream.abort(StreamError("the server ran a call itself; the reply is streamed again without it"))
                if following is None:  # else the next round shows the reply so far
                    await stream.show(to_updates(turn.items))
            if is_repeat:
                await stream.abort(StreamError("the reply was truncated; it is requested again with more room"))
            return turn, following

    async def _tell_tokens(self, ask: Ask, turn: Turn) -> None:
        """Tell the session the tokens of a round that is not asked for again with more room."""
        payload = token_payload(ask, turn, self._told)
        if payload is None or turn.tokens is None:
            self._server.warn_once(NO_TOKENS)
            return
        self._told.append(turn.tokens)
        await self._call.emit_tokens(payload)

    async def _settled(self, fold: Fold[Any], turn: Turn) -> Turn:
        """The truncated turn with what was held back for a round that would continue it."""
        await self._call.stream.show(fold.settle())
        return turn if fold.turn is None else replace(turn, items=fold.turn.items)

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
                self._retries.check_open()  # closing the provider ends no connection of a client that is the caller's
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
        if ask.options.truncation == "auto" and usage is not None and window is not None and fills(turn, window):
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
        if turn.tokens is not None:
            return replace(turn, usage=TokenUsage(len(turn.tokens.prompt), len(turn.tokens.sampled)))
        ours = ask.options.family.rendering == "harmony"
        encoding = await self._server.vocabulary.encoding() if ours else None
        if encoding is None:
            return replace(turn, usage=None)
        usage = await asyncio.to_thread(count_usage, encoding, ask, turn)
        logger.info("[TOKEN_ACCOUNTING] Injected usage: input=%s, output=%s", usage.input_tokens, usage.output_tokens)
        return replace(turn, usage=usage)

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


async def _with_hidden_cut(server: Server, turn: Turn, ask: Ask) -> Turn:
    """The turn as truncated, if the server hides that it is; as it is, if the server cannot tell its text."""
    tokens = all_tokens(turn)
    if not (turn.at_cap and ask.wants_tokens and tokens is not None):
        return turn
    try:
        following = await with_reply_text(server, continued_by_tokens(ask, turn, tokens))
    except AbortError:
        raise
    except LLMError:
        return turn
    return replace(turn, status=Status.INCOMPLETE, incomplete_reason="length") if was_cut(following) else turn


def _settled_items(fold: Fold[Any], items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items with what the fold holds back for a round that would continue them."""
    for _ in fold.settle():
        pass  # hooks get the whole reply again
    return items if fold.turn is None else fold.turn.items


def _turn_of(fold: Fold[Any], model: str) -> Turn:
    if fold.failure is not None:
        raise failed_stream(fold.failure, model)
    if fold.turn is None:
        raise truncated_stream(model)
    return fold.turn
