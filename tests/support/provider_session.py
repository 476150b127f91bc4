"""A provider in a session of the real kernel over a loopback socket, with a timeout for hangs."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.exchange import mounted_provider, user
from tests.support.replay import ReplayServer
from tests.support.session import Listener, Session, open_session, vllm

HANG_TIMEOUT: Final = 30.0
"""In seconds, ten times more than any test needs: only a hang reaches it."""

SHORT_RETRY_DELAY: Final[Mapping[str, Any]] = {"min_retry_delay": 0.01, "retry_jitter": False}
CITIES: Final = user("Which cities?")


@asynccontextmanager
async def provider_session(
    server: ReplayServer, *, listener: Listener | None = None, **config: Any
) -> AsyncIterator[tuple[Session, VLLMProvider]]:
    """A session with the server; checks that no connection and no task is left at the end."""
    tasks = asyncio.all_tasks()
    entry = vllm(server.base_url, **{**SHORT_RETRY_DELAY, **config})
    async with asyncio.timeout(HANG_TIMEOUT), open_session(entry, listener=listener) as session:
        yield session, mounted_provider(session)
    async with asyncio.timeout(HANG_TIMEOUT):
        await server.wait_for_disconnect()
    assert asyncio.all_tasks() <= tasks | server.tasks
