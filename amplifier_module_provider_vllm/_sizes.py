"""Largest decoded sizes of what a server may send, and the error beyond them: memory is bounded, whatever is sent."""

from typing import Final

MAX_REPLY: Final = 128 << 20
"""Bytes of an unstreamed answer. A reply of a million tokens has up to 10 MB of text, 60 MB if it is escaped."""

MAX_EVENT: Final = MAX_REPLY
"""Bytes of an event: the last one of a stream repeats the whole reply."""

MAX_REPLY_TEXT: Final = 256 << 20
"""Characters of a streamed reply, which has its text three times: in deltas, in items and in its last event. Its bytes
are no measure: an event of 250 bytes carries a token of 4."""

MAX_ERROR_BODY: Final = 1 << 20
"""Bytes; what follows is not read. Pages have some kilobytes, and no message that a person reads is longer."""


class RefusedBodyError(Exception):
    """A body, or a part of it, that is not read."""


def check_size(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise RefusedBodyError(f"{what} of more than {limit >> 20} MB, the most that is read")
