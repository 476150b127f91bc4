"""Retry an operation: delays, retry budget, and when to give up."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from amplifier_core.llm_errors import AbortError, LLMError, NetworkError, ProviderUnavailableError
from amplifier_core.utils.retry import RetryConfig, retry_with_backoff

from ._config import Config
from ._constants import CONNECT_TIMEOUT, PROVIDER
from ._observability import ObservedCall
from ._wire.client import Transport

T = TypeVar("T")

UNLIMITED_RETRIES = 1_000_000


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

        return await retry_with_backoff(attempt, retries, on_retry=self._before_retry)

    def check_open(self) -> None:
        """Raise `AbortError` if the provider was closed during the call, which is not to open it again."""
        if self._transport.times_closed != self._closed_before:
            raise AbortError("the provider was closed during the call", provider=PROVIDER, model=self._call.model)

    async def _before_retry(self, attempt: int, delay: float, error: LLMError) -> None:
        """Emit the retry event, or raise the error if a retry is pointless.

        An unreachable server is given up within the connect timeout, unless it may be starting.
        """
        self.check_open()
        if attempt == 1:
            self._failing_since = time.monotonic()
        waited = time.monotonic() - self._failing_since + delay
        starting = isinstance(error, ProviderUnavailableError) and waited <= self._config.startup_timeout
        unreachable = isinstance(error, NetworkError) and waited > CONNECT_TIMEOUT
        if not starting and (unreachable or attempt > self._config.max_retries):
            raise error
        await self._call.emit_retry(attempt, delay, error, self._config.max_retries)
