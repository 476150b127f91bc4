"""What an endpoint is: how an Ask becomes its JSON body, and how its replies become updates and a Turn. Types only."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import openai

from ._ask import Ask
from ._blocks import Blocks
from ._config import EndpointName
from ._failure import Failure
from ._turn import Turn
from ._updates import Update
from ._wire.sse import Frame

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

Body = dict[str, Any]
"""The JSON body of a request."""

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class Fold(Protocol[E_contra]):
    """The state of one attempt at a round, new for each, so that nothing of a failed one leaks into the next."""

    turn: Turn | None
    """The reply, once it is complete."""
    failure: Failure | None
    """The reason of an error event."""

    def push_all(self, events: Iterable[E_contra]) -> Iterator[Update]:
        """The updates of all the events of one read. Events after the terminal one are ignored."""
        ...

    def end(self) -> Iterator[Update]:
        """The updates of a stream that has ended, for an endpoint without a terminal event."""
        ...

    def settle(self) -> Iterator[Update]:
        """What is held back of a truncated reply that no round continues; the turn has it afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[E]):
    """One of the server's endpoints, with events of type E."""

    name: EndpointName
    create: Callable[[openai.AsyncOpenAI], Callable[..., AbstractAsyncContextManager[Any]]]
    """The SDK's method, in the form that leaves the body unread."""
    fit: Callable[[Ask], Ask]
    """The request without what the endpoint cannot say; each part removed is one of its degradations."""
    encode: Callable[[Ask], Body]
    """Raises `InvalidRequestError` for content that cannot be sent."""
    decode: Callable[[Frame], E | None]
    """None for an event that we do not read. Raises one of `UNREADABLE`."""
    decode_whole: Callable[[bytes], E]
    """An unstreamed reply as one terminal event."""
    is_last: Callable[[E], bool]
    is_progress: Callable[[Frame], bool]
    fold: Callable[[Blocks, Ask, "HarmonyEncoding | None"], Fold[E]]
    """The encoding is there if the reply to a gpt-oss model is read from token ids."""
    keeps_replies: bool = False
    """Whether the server can go on from a reply that it has stored."""
