"""A coordinator of the real kernel that records every hook event."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from amplifier_core import HookResult
from amplifier_core.events import ALL_EVENTS
from amplifier_core.testing import MockCoordinator

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.session import PROVIDER_EVENTS, Event

# No delay between retries, so that tests with failing rounds are fast.
NO_RETRY_DELAY: Mapping[str, Any] = {"min_retry_delay": 0, "retry_jitter": False}


class EventRecorder:
    """Records all events of a coordinator, as the kernel passes them to every listener."""

    def __init__(self) -> None:
        self.coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self._more = asyncio.Event()
        for name in dict.fromkeys([*ALL_EVENTS, *PROVIDER_EVENTS]):
            self.coordinator.hooks.register(name, self._record, priority=0, name=f"hear-{name}")

    async def _record(self, name: str, data: dict[str, Any]) -> HookResult:
        self.events.append(Event(name, data))
        self._more.set()
        return HookResult(action="continue")

    async def wait_for(self, name: str) -> None:
        """Wait until an event of this name is recorded."""
        while name not in self.names:
            self._more.clear()
            await self._more.wait()

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def payloads(self, *names: str) -> list[dict[str, Any]]:
        """The payloads of the events with these names, in order."""
        return [event.data for event in self.events if event.name in names]

    def blocks(self) -> list[tuple[Any, ...]]:
        """The stream events as tuples: kind, block index, block type, and text or tool name."""
        kinds = {f"llm:stream_block_{kind}": kind for kind in ("start", "delta", "end")}
        return [
            (kinds[event.name], event.data["block_index"], event.data["block_type"], _label(event.data))
            for event in self.events
            if event.name in kinds
        ]


@asynccontextmanager
async def provider_at(
    base_url: str, recorder: EventRecorder | None = None, **config: Any
) -> AsyncIterator[VLLMProvider]:
    """A provider that retries without delay and emits to the recorder; closed at the end."""
    coordinator = None if recorder is None else recorder.coordinator
    provider = VLLMProvider(base_url, config={**NO_RETRY_DELAY, **config}, coordinator=coordinator)
    try:
        yield provider
    finally:
        await provider.close()


def _label(data: Mapping[str, Any]) -> str | None:
    label: str | None = data.get("text", data.get("name"))
    return label
