"""Limit the decoded size of a body: 0.4 MB of gzip can hold 1 GB."""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from .._sizes import MAX_ERROR_BODY, MAX_REPLY, RefusedBodyError, check_size
from .pool import httpx

GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32

PIECE: Final = 1 << 20
"""Bytes that are decompressed at once."""


def limit_body(response: Any, request: Any) -> None:
    """Limit the body of a response: that of an error ends at its largest size, any other fails there.

    A stream that is read as one has no limit here: `_wire.sse` limits its events, `_blocks` what is kept of them.
    """
    encoding = response.headers.pop("content-encoding", "identity").lower()
    read_as_stream = request.headers.get("x-stainless-raw-response") == "stream"  # the SDK's own header
    is_stream = read_as_stream and "text/event-stream" in response.headers.get("content-type", "").lower()
    response.stream = _Body(response.stream, encoding, is_error=response.status_code >= 300, is_stream=is_stream)


class _Body(httpx.AsyncByteStream):  # type: ignore[misc]  # its base is known at run time only
    def __init__(self, parts: Any, encoding: str, *, is_error: bool, is_stream: bool) -> None:
        self._parts = parts
        self._encoding = encoding
        self._is_error = is_error
        self._is_stream = is_stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._decoded():
            size += len(part)
            if self._is_error and size > MAX_ERROR_BODY:
                return  # its status says more than the rest of it
            if not self._is_stream:
                check_size(size, MAX_REPLY, "a reply")
            yield part

    async def _decoded(self) -> AsyncIterator[bytes]:
        match self._encoding:
            case "identity" | "":
                async for part in self._parts:
                    yield part
            case "gzip" | "x-gzip" | "deflate":
                decompressor = zlib.decompressobj(GZIP_OR_ZLIB)
                async for part in self._parts:
                    for piece in _pieces(decompressor, part):
                        yield piece
            case _:
                raise RefusedBodyError(f"a reply in the encoding {self._encoding!r}, which was not asked for")

    async def aclose(self) -> None:
        await self._parts.aclose()


def _pieces(decompressor: Any, part: bytes) -> Iterator[bytes]:
    try:
        while part:
            yield decompressor.decompress(part, PIECE)
            part = decompressor.unconsumed_tail
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
