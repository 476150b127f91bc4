"""Token-in: a prompt as the tokens of the call before, of its reply, and of the new messages.

So the model is prompted with exactly what it has sampled, which no history of messages gives back. The ids of the new
messages come from the server's own template, or for gpt-oss from Harmony; those sent once are never changed.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from ._ask import Ask, TokenPrompt, has_images
from ._harmony.suffix import harmony_suffix
from ._prompt import PromptItem, User
from ._refusals import is_missing_path
from ._rendering import UNAVAILABLE, tokenized
from ._server import Server
from ._token_chains import Extension
from ._turn import Text, Turn

logger = logging.getLogger(__name__)

NOT_TAKEN: Final = (
    "the server did not take the token ids of a prompt, so `token_in` has no effect: it needs vLLM 0.32 at"
    " /v1/chat/completions, without a gateway that drops `kv_transfer_params`"
)
NO_SUFFIX: Final = (
    "the token ids of new messages cannot be had, so messages are sent: `token_in` needs vLLM's /tokenize (config"
    " key `tokenize_url` behind a proxy), and for gpt-oss its vocabulary files"
)
QUESTION: Final = User(("x",))


async def with_prompt_ids(server: Server, ask: Ask) -> Ask:
    """The request with its prompt in token ids, if `token_in` asks for that and it has not been tried yet."""
    if not ask.options.token_in or ask.options.endpoint != "chat" or ask.reply:
        return ask
    return ask if ask.tokens is not None or ask.segment is not None else await _extended(server, ask)


async def _extended(server: Server, ask: Ask) -> Ask:
    """The request with its prompt in token ids, if it extends a call before it; else why it begins a new segment.

    Raises `LLMError`.
    """
    if has_images(ask):
        return replace(ask, segment="images")
    if not server.takes_prompt_ids:
        return replace(ask, segment="message mode")
    found = server.chains.find(ask)
    if isinstance(found, str):
        return replace(ask, segment=found)
    if server.config.across_turns == "rerender" and any(isinstance(item, User) for item in found.items):
        return replace(ask, segment="new user turn")
    suffix = await _suffix(server, ask, found)
    if suffix is None:
        return without_ids(server, ask)
    return replace(ask, tokens=TokenPrompt((*found.chain.ids, *suffix)))


def without_ids(server: Server, ask: Ask) -> Ask:
    """The request for the server's own rendering, because the ids of its new messages cannot be had now."""
    server.warn_once(NO_SUFFIX)
    return replace(ask, segment="message mode")


def as_taken(server: Server, ask: Ask, turn: Turn) -> Ask:
    """The request as the server took it: without the ids of its prompt, if it was prompted with others."""
    if not ask.sends_prompt_ids or turn.tokens is None or ask.tokens is None or turn.tokens.prompt == ask.tokens.ids:
        return ask
    return in_messages(server, ask, "ids not taken")


def in_messages(server: Server, ask: Ask, segment: str) -> Ask:
    """The request for the server's own rendering: this server takes no ids."""
    server.takes_prompt_ids = False
    server.warn_once(NOT_TAKEN)
    return replace(ask, tokens=None, segment=segment)


async def _suffix(server: Server, ask: Ask, found: Extension) -> Sequence[int] | None:
    """The ids behind those of the conversation; None if they cannot be had."""
    if ask.options.family.rendering == "harmony":
        encoding = await server.vocabulary.encoding()
        if encoding is None:
            return None
        prompt = replace(ask.prompt, items=(*found.calls, *found.items))
        return harmony_suffix(encoding, replace(ask, prompt=prompt), len(found.items), found.chain.ids[-1])
    try:
        return await _template_suffix(server, ask, found)
    except UNAVAILABLE as error:
        logger.info("[PROVIDER] vLLM: /tokenize refused the new messages: %s", error)
        server.takes_prompt_ids = not is_missing_path(error)
        return None


async def _template_suffix(server: Server, ask: Ask, found: Extension) -> Sequence[int] | None:
    """What the template writes behind the turn of a short stand-in for the reply, with the same calls."""
    stands = await _stand_in(server, ask, found)
    if stands is None:
        return None
    end, before = stands
    calls = [msgspec.structs.replace(call, arguments="{}") for call in found.calls]
    ids = await _ids(server, ask, QUESTION, Text("x", beside_calls=bool(calls)), *calls, *found.items)
    ends = [place for place, token in enumerate(ids) if token == end]
    if len(ends) <= before:
        return None
    cut = not (found.chain.ended or found.chain.ids[-1] == end)
    return (*((end,) if cut else ()), *ids[ends[before] + 1 :])


async def _stand_in(server: Server, ask: Ask, found: Extension) -> tuple[int, int] | None:
    """The token that ends a turn, and how often it stands before the stand-in; None if there is none."""
    same_for = tuple(digest for name, digest in found.chain.settings.items() if name != "system prompt")
    if same_for not in server.turn_ends:
        end = await _turn_end(server, ask)
        if end is None:
            return None
        server.turn_ends[same_for] = end, list(await _ids(server, ask, QUESTION)).count(end)
    return server.turn_ends[same_for]


async def _turn_end(server: Server, ask: Ask) -> int | None:
    """The token with which the template ends a turn of the model; None if it has none."""
    one, other = [await _ids(server, ask, QUESTION, Text(text), ends_here=True) for text in ("a", "b c")]
    same = 0
    while same < min(len(one), len(other)) and one[-1 - same] == other[-1 - same]:
        same += 1
    return one[-same] if same else None


async def _ids(server: Server, ask: Ask, *items: PromptItem, ends_here: bool = False) -> Sequence[int]:
    prompt = replace(ask.prompt, items=items, instructions=None)
    return await tokenized(server, replace(ask, prompt=prompt), ends_here=ends_here)
