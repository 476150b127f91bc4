"""The endpoints that a server can be asked at, and the only module that knows what is inside of one."""

from typing import Final

from ._responses.encode import encode
from ._responses.events import Event, decode_event, decode_reply, is_last, is_progress
from ._responses.fold import ResponsesFold
from ._wire.client import Dialect

__all__ = ["RESPONSES", "ResponsesFold", "encode"]

RESPONSES: Final[Dialect[Event]] = Dialect(
    create=lambda client: client.responses.with_streaming_response.create,
    decode=decode_event,
    decode_whole=decode_reply,
    is_last=is_last,
    is_progress=is_progress,
)
"""How /v1/responses is asked and its replies are read."""
