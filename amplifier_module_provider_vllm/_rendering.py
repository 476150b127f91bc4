"""Render a conversation as token ids with the server's own template, for a round at /v1/completions."""

from ._ask import Ask
from ._server import Server


async def rendered(_server: Server, ask: Ask) -> Ask:
    return ask


async def with_reply_text(_server: Server, ask: Ask) -> Ask:
    return ask
