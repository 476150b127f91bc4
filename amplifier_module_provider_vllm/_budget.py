"""Measure a request before it is sent, for a session that asks how much of its context fits."""

import asyncio
import logging
from typing import Any

from amplifier_core.llm_errors import AbortError, LLMError

from ._ask import Ask
from ._cancellation import CancellationToken, CancellationWatch
from ._completion import Completion
from ._constants import PROBE_TIMEOUT
from ._harmony.count import count_input
from ._server import Server
from ._tokenize import count_bodies, is_ascii, read_count

logger = logging.getLogger(__name__)


async def request_budget(
    server: Server, completion: Completion, context_estimate: int, cancellation: CancellationToken | None
) -> dict[str, Any] | None:
    """The budget, with Amplifier's keys; None for any failure, a timeout or a cancelled session included."""
    outcome: dict[str, Any] | BaseException | None
    try:
        async with CancellationWatch(cancellation), asyncio.timeout(PROBE_TIMEOUT):
            (outcome,) = await asyncio.gather(_budget(server, completion, context_estimate), return_exceptions=True)
    except (TimeoutError, AbortError) as error:
        outcome = error
    if isinstance(outcome, BaseException):
        logger.debug("[PROVIDER] vLLM: the request could not be counted: %r", outcome)
        return None
    return outcome


async def _budget(server: Server, completion: Completion, context_estimate: int) -> dict[str, Any] | None:
    ask, _ = await completion.prepare()
    options = ask.options
    count = await _count(server, ask)
    if count is None:
        return None
    source, tokens = count
    limits = server.limits(options.model)
    # A cap of ours is only the most that a reply may get; the session plans with what it was told.
    capped = options.max_output_tokens not in (None, limits.largest_reply)
    output = (options.max_output_tokens if capped else None) or limits.max_output_tokens
    room = max(0, limits.context_window - output)
    return {
        "estimated_input_tokens": tokens,
        "input_limit_tokens": room,
        # In the caller's own unit: its estimate fits this budget exactly if the request fits the limit.
        "context_token_budget": max(0, room - (tokens - context_estimate)),
        "max_output_tokens": output,
        "measurement": {"kind": "provider_count", "source": source, "input_tokens": tokens},
    }


async def _count(server: Server, ask: Ask) -> tuple[str, int] | None:
    """The source of the count, and the count: from the server's endpoint; for gpt-oss also from our own vocabulary."""
    if ask.options.family.rendering == "template":
        return await _server_count(server, ask)
    if is_ascii(ask):
        return await _server_count(server, ask) or await _harmony_count(server, ask)
    return await _harmony_count(server, ask) or await _server_count(server, ask)


async def _server_count(server: Server, ask: Ask) -> tuple[str, int] | None:
    for path, body in count_bodies(ask):
        try:
            tokens = read_count(await server.transport.post(path, body, PROBE_TIMEOUT))
        except LLMError as error:
            logger.debug("[PROVIDER] vLLM: no count at %s: %s", path, error)
            continue
        if tokens is not None:
            return f"vllm:{path}", tokens
    return None


async def _harmony_count(server: Server, ask: Ask) -> tuple[str, int] | None:
    """Count with a vocabulary already on disk: a budget is not worth a download."""
    encoding = await asyncio.to_thread(server.vocabulary.load)
    return None if encoding is None else ("openai-harmony", await asyncio.to_thread(count_input, encoding, ask))
