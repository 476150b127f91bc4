"""Mount the provider in a session: create it from the config, register its contributors, return its cleanup."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from amplifier_core.llm_errors import ConfigurationError, LLMError

from ._config_reading import read_config
from ._constants import PROVIDER
from ._observability import EVENTS
from ._provider import VLLMProvider

logger = logging.getLogger(__name__)


async def mount(coordinator: Any, config: Mapping[str, Any] | None = None) -> Callable[[], Awaitable[None]]:
    """Mount a provider as "vllm" and return its cleanup. Offline and cheap: the kernel's validator calls it too.

    Raises `ConfigurationError` for an invalid config value.
    """
    stated = dict(config or {})
    try:
        read = read_config(stated, os.environ)  # its URL has a default, which the constructor does not have
    except ConfigurationError as error:
        # Amplifier's app hides the kernel's log, and then says only that there are no providers.
        logger.error("[PROVIDER] vLLM: %s", error)  # noqa: TRY400 - the traceback says no more
        raise
    key = read.api_key.get_secret_value()
    provider = VLLMProvider(read.base_url, api_key=key, config=stated, coordinator=coordinator)
    await coordinator.mount("providers", provider, name=PROVIDER)
    coordinator.register_contributor("observability.events", PROVIDER, lambda: EVENTS)
    coordinator.register_contributor("session.cost", PROVIDER, provider.session_cost)
    logger.info("[PROVIDER] Mounted vLLM provider for %s", provider.url)
    return provider.close


async def on_session_ready(coordinator: Any) -> None:
    """Probe every vLLM server's models and limits before the first call. Takes seconds at most, and never fails.

    The kernel calls this once for every mounted instance; each server is probed once, all concurrently.
    """
    mounted: Mapping[str, object] = coordinator.get("providers") or {}
    await asyncio.gather(*(_probe(one) for one in mounted.values() if isinstance(one, VLLMProvider) and not one.probed))


async def _probe(provider: VLLMProvider) -> None:
    try:
        await provider.probe()
    except LLMError as error:
        logger.debug("[PROVIDER] vLLM: limits not known yet: %s", error)
