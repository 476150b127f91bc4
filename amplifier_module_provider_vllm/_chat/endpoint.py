"""/v1/chat/completions as an Endpoint."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import openai

from .._ask import Ask
from .._blocks import Blocks
from .._endpoint import Endpoint, Fold
from .encode import encode
from .events import Event, decode_event, decode_reply, is_last, is_progress
from .fit import fit
from .fold import ChatFold

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding


def _create(client: openai.AsyncOpenAI) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """The SDK requires these two arguments; the body, sent past its type checks, replaces them."""
    return partial(client.chat.completions.with_streaming_response.create, messages=[], model="")


def _fold(blocks: Blocks, ask: Ask, _encoding: "HarmonyEncoding | None") -> Fold[Event]:
    return ChatFold(blocks, ask)


CHAT: Final[Endpoint[Event]] = Endpoint(
    name="chat",
    create=_create,
    fit=fit,
    encode=encode,
    decode=decode_event,
    decode_whole=decode_reply,
    is_last=is_last,
    is_progress=is_progress,
    fold=_fold,
)
