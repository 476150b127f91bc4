"""How a round begins: its prompt in token ids where it needs them, its blocks and its fold, and hooks that catch up."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amplifier_core.llm_errors import StreamError

from ._ask import Ask
from ._blocks import Blocks
from ._endings import reads_the_same
from ._endpoint import Fold
from ._endpoints import endpoint_of
from ._errors import no_vocabulary, unreadable_tokens
from ._harmony.vocabulary import NO_READER
from ._observability import ObservedStream
from ._options import CallOptions
from ._rendering import rendered, with_reply_text
from ._server import Server
from ._token_in import with_prompt_ids
from ._visible_text import VisibleText

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
        visible_text=_visible_text(ask.options),
    )
    fold = endpoint_of(ask).fold(blocks, ask, await _encoding(server, ask))
    if exact and not reads_the_same(blocks.items, ask.reply, ask):
        raise unreadable_tokens(ask.options.model)
    await _catch_up(stream, blocks, ask)
    return ask, blocks, fold


async def _rendered(server: Server, ask: Ask) -> Ask:
    if ask.options.endpoint != "completions":
        return await with_prompt_ids(server, ask)
    return await with_reply_text(server, ask) if ask.is_exact else await rendered(server, ask)


def _visible_text(options: CallOptions) -> Callable[[], VisibleText] | None:
    """The filter for the texts of a round; None for a family whose texts vLLM cuts itself."""
    if options.family.rendering != "harmony" or options.raw_prompt:
        return None
    return lambda: VisibleText(options.hidden_stop_strings)


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
