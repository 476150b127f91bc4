"""/v1/completions as an Endpoint."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

import openai

from .._endpoint import Endpoint
from .encode import encode
from .events import Event, decode_event, decode_reply, is_last, is_progress
from .fit import fit
from .fold import CompletionsFold


def _create(client: openai.AsyncOpenAI) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """The SDK requires these two arguments; the body, sent past its type checks, replaces them."""
    return partial(client.completions.with_streaming_response.create, prompt="", model="")


COMPLETIONS: Final[Endpoint[Event]] = Endpoint(
    name="completions",
    create=_create,
    fit=fit,
    encode=encode,
    decode=decode_event,
    decode_whole=decode_reply,
    is_last=is_last,
    is_progress=is_progress,
    fold=CompletionsFold,
)
