"""How a round begins: its prompt in token ids where it needs them, its blocks and its fold, and hooks that catch up."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amplifier_core.llm_errors import AbortError, LLMError, StreamError

from ._ask import Ask
from ._blocks import Blocks
from ._endings import all_tokens, by_tokens, reads_the_same, visible_text, was_cut
from ._endpoint import Fold
from ._endpoints import endpoint_of
from ._errors import no_vocabulary, unreadable_tokens
from ._harmony.vocabulary import NO_READER
from ._observability import ObservedStream
from ._rendering import rendered, with_reply_text
from ._server import Server
from ._turn import Status, Turn

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding


async def opened(
    server: Server, stream: ObservedStream, ask: Ask, *, may_continue: bool
) -> tuple[Ask, Blocks, Fold[Any]]:
    """The request as it is sent, the blocks of its round, and its fold. Raises `LLMError`.

    Hooks are shown what they have not seen of the reply so far.
    """
    exact = ask.is_exact
    ask = await _rendered(server, replace(ask, wants_tokens=ask.wants_tokens and may_continue))
    blocks = Blocks(
        () if exact else ask.reply,
        may_continue=may_continue,
        by_tokens=ask.wants_tokens,
        visible_text=visible_text(ask.options),
    )
    fold = endpoint_of(ask).fold(blocks, ask, await _encoding(server, ask))
    if exact and not reads_the_same(blocks.items, ask.reply, ask):
        raise unreadable_tokens(ask.options.model)
    await _catch_up(stream, blocks, ask)
    return ask, blocks, fold


async def with_hidden_cut(server: Server, turn: Turn, ask: Ask) -> Turn:
    """The turn as truncated, if the server hides that it is; as it is, if the server cannot tell its text."""
    tokens = all_tokens(turn)
    if not (turn.at_cap and ask.wants_tokens and tokens is not None):
        return turn
    try:
        following = await with_reply_text(server, by_tokens(ask, turn, tokens))
    except AbortError:
        raise
    except LLMError:
        return turn
    return replace(turn, status=Status.INCOMPLETE, incomplete_reason="length") if was_cut(following) else turn


async def _rendered(server: Server, ask: Ask) -> Ask:
    if ask.options.endpoint != "completions":
        return ask
    return await with_reply_text(server, ask) if ask.is_exact else await rendered(server, ask)


async def _catch_up(stream: ObservedStream, blocks: Blocks, ask: Ask) -> None:
    """Show hooks what they have not seen of the reply so far."""
    if stream.visible and ask.is_exact:
        missing = blocks.catch_up(ask.reply)
        if missing is not None:
            await stream.show(missing)
            return
        await stream.abort(StreamError("the reply so far is streamed again, as it was read from its token ids"))
    if not stream.visible:
        await stream.show(blocks.replay())


async def _encoding(server: Server, ask: Ask) -> "HarmonyEncoding | None":
    """What a reply of gpt-oss is read with, where the server does not. Raises `ConfigurationError` without it."""
    options = ask.options
    if options.endpoint != "completions" or options.raw_prompt or options.family.rendering != "harmony":
        return None
    encoding = await server.vocabulary.encoding(NO_READER)
    if encoding is None:
        raise no_vocabulary(options.model)
    return encoding
