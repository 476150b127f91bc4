"""The table of endpoints, and the only module that imports one."""

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
"""How to send a request to /v1/responses and decode its replies."""
