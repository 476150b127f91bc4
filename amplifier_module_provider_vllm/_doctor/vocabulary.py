"""Check that tokens of gpt-oss can be counted where its server does not count them."""

from collections.abc import AsyncIterator

from .._server import Server
from .findings import Finding, note


async def vocabulary(server: Server) -> AsyncIterator[Finding]:
    yield note("vocabulary", "TODO")
