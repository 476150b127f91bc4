"""Register handlers of a session's events so that each can be removed."""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final

from amplifier_core import HookResult

Handler = Callable[[str, dict[str, Any]], Awaitable[HookResult]]

_numbers: Final = count(1)


def register(coordinator: Any, event: str, handler: Handler, name: str) -> Callable[[], None]:
    """Returns what removes the handler. Its name gets a number: Amplifier 1.6 removes whichever has the same name."""
    remove: Callable[[], None] = coordinator.hooks.register(event, handler, name=f"{name}-{next(_numbers)}")
    return remove
