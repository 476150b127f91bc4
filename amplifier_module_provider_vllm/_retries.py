"""Retry an operation: delays, retry budget, and when to give up."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from amplifier_core.llm_errors import LLMError, ProviderUnavailableError
from amplifier_core.utils.retry import RetryConfig, retry_with_backoff

from ._config import Config
from ._constants import CONNECT_TIMEOUT
from ._errors import closed, is_unreachable
from ._observability import ObservedCall
from ._wire.client import Transport

T = TypeVar("T")

UNLIMITED_RETRIES = 1_000_000

MOST_RETRIES_PLANNED = 10_000
"""Where the count in a retry event ends, for retries without a delay."""


class Retries:
    """The retries of one call, with Amplifier's backoff; each operation gets the full retry budget."""

    def __init__(self, transport: Transport, config: Config, call: ObservedCall) -> None:
        self._transport = transport
        self._config = config
        self._call = call
        self._closed_before = transport.times_closed
        self._failing_since = 0.0

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The operation's result. Raises the `LLMError` that ended the last attempt."""
        config = self._config
        retries = RetryConfig(
            max_retries=UNLIMITED_RETRIES if config.startup_timeout else config.max_retries,
            initial_delay=config.min_retry_delay,
            max_delay=config.max_retry_delay,
            jitter=config.retry_jitter,
        )

        async def attempt() -> T:
            self.check_open()
            return await operation()

        try:
            return await retry_with_backoff(attempt, retries, on_retry=self._before_retry)
        except LLMError as error:
            if self._asks_too_long(error):
                error.retryable = False  # whoever catches it must not wait so long either
            raise

    def check_open(self) -> None:
        """Raise `AbortError` if the provider was closed during the call, which is not to open it again."""
        if self._transport.times_closed != self._closed_before:
            raise closed(self._call.model)

    async def _before_retry(self, attempt: int, delay: float, error: LLMError) -> None:
        """Emit the retry event, or raise the error if a retry is pointless."""
        self.check_open()
        if attempt == 1:
            self._failing_since = time.monotonic()
        waited = time.monotonic() - self._failing_since + delay
        allowed = self._allowed_retries(attempt, waited, error)
        if attempt > allowed:
            raise error
        await self._call.emit_retry(attempt, delay, error, allowed)

    def _allowed_retries(self, attempt: int, waited: float, error: LLMError) -> int:
        """How many retries a failure like this one gets, if it lasts. `waited`: seconds until this retry.

        An unreachable server is given up within the connect timeout, unless it may be starting.
        """
        config = self._config
        may_start = config.startup_timeout > 0 and isinstance(error, ProviderUnavailableError)
        starting = self._retries_within(config.startup_timeout, attempt, waited) if may_start else 0
        if self._asks_too_long(error):
            return starting
        if is_unreachable(error):
            return max(starting, min(config.max_retries, self._retries_within(CONNECT_TIMEOUT, attempt, waited)))
        return max(starting, config.max_retries)

    def _retries_within(self, seconds: float, attempt: int, waited: float) -> int:
        """The last retry that begins within so many seconds of the first failure."""
        if waited > seconds:
            return attempt - 1
        while attempt < MOST_RETRIES_PLANNED:
            waited += min(self._config.min_retry_delay * 2.0 ** min(attempt, 60), self._config.max_retry_delay)
            if waited > seconds:
                break
            attempt += 1
        return attempt

    def _asks_too_long(self, error: LLMError) -> bool:
        """Whether the server asks for a longer wait than the config allows."""
        return error.retry_after is not None and error.retry_after > self._config.max_retry_delay
