"""End a call when its session is cancelled: the kernel sets a token, and never cancels the task that we run in."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from amplifier_core.llm_errors import AbortError

from ._constants import PROVIDER

POLL_INTERVAL = 0.02
"""Seconds. The token's callbacks fire only if the app triggers them, and it does not; a look costs 0.1 µs."""

APP_INTERVAL = 0.06
"""Seconds in which the app has looked at the token too: every 50 ms. An error that is earlier is shown as a failure."""


class CancellationToken(Protocol):
    """The kernel's `coordinator.cancellation`."""

    @property
    def is_immediate(self) -> bool: ...


def cancellation_token(coordinator: Any) -> CancellationToken | None:
    """The session's token; None without a session, and for a coordinator that has none."""
    token: CancellationToken | None = None
    with suppress(AttributeError):
        token = coordinator.cancellation
    return token


class CancellationWatch:
    """Cancels a block, whatever it waits for, within 100 ms of the session's immediate cancellation.

    Inside, the block sees `CancelledError`; outside, the caller, whose task nobody cancelled, sees `AbortError`. A
    graceful cancellation lets the block end.
    """

    def __init__(self, token: CancellationToken | None) -> None:
        self._token = token
        self._task: asyncio.Task[Any] | None = None
        self._cancels_before = 0
        self._timer: asyncio.TimerHandle | None = None
        self._has_cancelled = False
        self._app_sees_it_at = 0.0
        """The time on the event loop's clock."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._token is not None and self._task is not None:
            self._cancels_before = self._task.cancelling()
            self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._has_cancelled or self._task is None:
            return
        # As in asyncio.timeout: another cancellation of the task, not ours, stays a CancelledError.
        if self._task.uncancel() <= self._cancels_before and isinstance(error, asyncio.CancelledError):
            await asyncio.sleep(self._app_sees_it_at - asyncio.get_running_loop().time())
            raise AbortError("the session was cancelled during the call", provider=PROVIDER) from error

    async def check(self) -> None:
        """Raise if the session was cancelled since the last look, or before, and a hook has swallowed it."""
        if self._has_cancelled or self._is_cancelled():
            self._look()
            await asyncio.sleep(0)
            raise asyncio.CancelledError

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._is_cancelled():
            self._timer = loop.call_later(POLL_INTERVAL, self._look)
        elif self._task is not None and not self._has_cancelled:
            self._has_cancelled = True
            self._app_sees_it_at = loop.time() + APP_INTERVAL
            self._task.cancel()

    def _is_cancelled(self) -> bool:
        return self._token is not None and self._token.is_immediate is True
