"""The interface of a contender: anything that streams the reply to a history."""

import importlib.util
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from bench.conversation import Step

MODEL: Final = "tiny-qwen3"
GPT_OSS: Final = "tiny-gpt-oss"
KEY: Final = "EMPTY"
ANSWER: Final = "response.output_text.delta"

Heard = Callable[[str], None]
"""Called with each piece of the answer as soon as a user of the contender gets it."""

Ask = Callable[[], Awaitable[None]]
"""Streams one reply from its beginning to its end."""


class Open(Protocol):
    """Makes a contender ready to ask: the history is in its own types, its connections stay open."""

    def __call__(
        self, base_url: str, on_text: Heard, steps: Sequence[Step] = ..., /
    ) -> AbstractAsyncContextManager[Ask]: ...


Wire = Literal["responses", "chat", "chat with ids", "chat with logprobs", "completions", "completions of gpt-oss"]
"""What the server sends: its endpoint, with or without token ids and their log probabilities, and its model where that
makes a difference."""


@dataclass(frozen=True)
class Contender:
    name: str
    open: Open
    wire: Wire = "responses"
    package: str | None = None
    """The packages that it needs, besides this package's own."""
    environment: Path | None = None
    """The virtual environment in which it runs, if not in this one."""

    @property
    def installed(self) -> bool:
        if self.environment is not None:
            return (self.environment / ".ready").exists()
        return self.package is None or importlib.util.find_spec(self.package) is not None

    @property
    def python(self) -> str:
        return sys.executable if self.environment is None else str(self.environment / "bin" / "python")
