"""One running operation for all callers that want it at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from amplifier_core.llm_errors import AbortError

from ._constants import PROVIDER


@dataclass(slots=True)
class _Run:
    task: asyncio.Task[None]
    callers: int = 0


class SharedOperation:
    """A caller that gives up leaves it running; it is cancelled with the last caller that is cancelled."""

    def __init__(self, operation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._operation = operation
        self._run: _Run | None = None

    async def wait(self, max_wait: float) -> None:
        """Start the operation, or join it, and wait for its end. Raises `TimeoutError` after `max_wait` seconds."""
        run = self._joined_run()
        run.callers += 1
        try:
            async with asyncio.timeout(max_wait):
                # Not `asyncio.shield`: Python 3.14 logs the error of a task whose shield was cancelled.
                await asyncio.wait([run.task])
            run.task.result()
        except asyncio.CancelledError:
            if run.task.cancelled():
                raise AbortError("the provider was closed", provider=PROVIDER) from None
            if run.callers == 1:
                self._run = None  # the next caller starts a new one
                await _end(run.task)
            raise
        finally:
            run.callers -= 1

    async def cancel(self) -> None:
        """Cancel the operation for all its callers, who get an `AbortError`."""
        run, self._run = self._run, None
        if run is not None and run.task.get_loop() is asyncio.get_running_loop():
            await _end(run.task)

    def _joined_run(self) -> _Run:
        run = self._run
        # A task of an earlier event loop never ends.
        if run is None or run.task.done() or run.task.get_loop() is not asyncio.get_running_loop():
            run = self._run = _Run(asyncio.create_task(self._operation()))
            run.task.add_done_callback(_retrieve)
        return run


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark an error as seen: asyncio would log one that no caller waited for."""
    if not task.cancelled():
        task.exception()
