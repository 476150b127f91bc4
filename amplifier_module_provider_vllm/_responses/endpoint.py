"""/v1/responses as an Endpoint."""

from typing import TYPE_CHECKING, Final

from .._ask import Ask
from .._blocks import Blocks
from .._endpoint import Endpoint, Fold
from .encode import encode
from .events import Event, decode_event, decode_reply, is_last, is_progress
from .fit import fit
from .fold import ResponsesFold

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding


def _fold(blocks: Blocks, ask: Ask, _encoding: "HarmonyEncoding | None") -> Fold[Event]:
    return ResponsesFold(blocks, ask.hosted_labels)


RESPONSES: Final[Endpoint[Event]] = Endpoint(
    name="responses",
    create=lambda client: client.responses.with_streaming_response.create,
    fit=fit,
    encode=encode,
    decode=decode_event,
    decode_whole=decode_reply,
    is_last=is_last,
    is_progress=is_progress,
    fold=_fold,
    keeps_replies=True,
)
