"""Remember the token ids of conversations, and find the one that a request extends (`token_in`).

Histories are compared as sessions keep them: without the reminders that a hook adds to one request only, and without
the reasoning, which not every session sends back.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, assert_never

import msgspec

from ._ask import Ask
from ._prompt import PromptItem, Reminder, Result, User, digests
from ._strict_json import wire_text
from ._turn import FunctionCall, Reasoning, Status, Text, Turn

MAX_CHAINS: Final = 16
"""How many calls of one provider are remembered, the last of each conversation the longest.

A session has one conversation, its naming and its goals a few more.
"""


@dataclass(frozen=True, slots=True)
class TokenChain:
    """A conversation after one of its calls. Its messages are not kept here."""

    ids: "array[int]"
    """The prompt of the call and what the model sampled."""
    ended: bool
    """Whether the model ended its turn itself: its last id is then an end token, even if not the template's."""
    settings: Mapping[str, bytes]
    """Digests of what stands before the conversation in a prompt."""
    length: int
    """The number of items that the session keeps, with the reply."""
    first: bytes
    """The digest of the first of them."""
    items: bytes
    """The digest of all of them."""
    thoughts: bytes
    """The digest of the reasoning, by which conversations differ that look the same."""
    reminders: frozenset[str]
    """The reminders of the request. Some sessions keep them, and send them again."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A remembered conversation, and what a request adds to it."""

    chain: TokenChain
    items: tuple[User | Result, ...]
    """The new messages."""
    calls: tuple[FunctionCall, ...]
    """The calls of the reply before them."""


class TokenChains:
    """The conversations of one provider, the newest last."""

    def __init__(self) -> None:
        self._chains: deque[TokenChain] = deque()

    def remember(self, ask: Ask, reply: Sequence[PromptItem], turn: Turn) -> None:
        """Remember a call. `reply`: its answer, as the next request will have it."""
        kept = list(digests(item for _, item in _kept((*ask.prompt.items, *reply))))
        if turn.tokens is None or not turn.tokens.sampled or not kept:
            return
        try:
            ids = array("I", turn.tokens.all)
        except OverflowError:  # no ids of a vocabulary: no prompt is made of them
            return
        if len(self._chains) == MAX_CHAINS:
            self._forget_one()
        self._chains.append(
            TokenChain(
                ids=ids,
                ended=turn.status is Status.COMPLETED and not ask.options.has_stops,
                settings=_settings(ask),
                length=len(kept),
                first=kept[0],
                items=kept[-1],
                thoughts=_thoughts((*ask.prompt.items, *reply)),
                reminders=frozenset(_reminders(ask.prompt.items)),
            )
        )

    def _forget_one(self) -> None:
        """Forget the oldest call that has a later one of its conversation, or else the oldest of all."""
        last = {one.first: one for one in self._chains}
        del self._chains[next((n for n, one in enumerate(self._chains) if last[one.first] is not one), 0)]

    def find(self, ask: Ask) -> Extension | str:
        """What the request extends; or why it begins a new segment."""
        items = ask.prompt.items
        kept = list(_kept(items))
        by_length = dict(enumerate(digests(item for _, item in kept), start=1))
        found = [one for one in self._chains if by_length.get(one.length) == one.items]
        if not found:
            is_known = any(by_length.get(1) == one.first for one in self._chains)
            return "history changed" if is_known else "first call"
        settings, thoughts = _settings(ask), _thoughts(items)
        chain = max(reversed(found), key=lambda one: (one.length, one.settings == settings, one.thoughts == thoughts))
        changed = [name for name, digest in settings.items() if chain.settings[name] != digest]
        if changed:
            return f"{' and '.join(changed)} changed"
        behind = kept[chain.length - 1][0] + 1
        return _extension(chain, items[:behind], items[behind:])


def _extension(chain: TokenChain, old: Sequence[PromptItem], rest: Sequence[PromptItem]) -> Extension | str:
    new = [item for item in rest if isinstance(item, User | Result)]
    if any(not isinstance(item, User | Result | Reasoning) for item in rest):
        return "history changed"
    if not new:
        return "no new message"
    late = [Reminder(text) for text in _reminders(old) if text not in chain.reminders]
    if late:
        new[-1] = msgspec.structs.replace(new[-1], parts=(*new[-1].parts, *late))
    return Extension(chain, tuple(new), _last_calls(old))


def _last_calls(items: Sequence[PromptItem]) -> tuple[FunctionCall, ...]:
    """The calls of the reply at the end of the items."""
    calls: list[FunctionCall] = []
    for item in reversed(items):
        if isinstance(item, User | Result):
            break
        if isinstance(item, FunctionCall):
            calls.insert(0, item)
    return tuple(calls)


def _kept(items: Iterable[PromptItem]) -> Iterator[tuple[int, PromptItem]]:
    """The place of each item that a session keeps, and the item as every session keeps it."""
    for place, item in enumerate(items):
        match item:
            case User(parts):
                if own := tuple(part for part in parts if not isinstance(part, Reminder)):
                    yield place, User(own)
            case Result(call_id, parts):
                yield place, Result(call_id, tuple(part for part in parts if not isinstance(part, Reminder)))
            case Text(text):
                if text.strip():
                    yield place, Text(text.strip())
            case FunctionCall(call_id, name, arguments):
                yield place, FunctionCall(call_id, name, _canonical(arguments))
            case Reasoning():
                pass
            case _:
                assert_never(item)


def _canonical(arguments: str) -> str:
    """The arguments without the spaces that a session may have changed."""
    try:
        return msgspec.json.encode(msgspec.json.decode(wire_text(arguments))).decode()
    except (msgspec.DecodeError, RecursionError):
        return arguments


def _thoughts(items: Iterable[PromptItem]) -> bytes:
    texts = [item.text.strip() for item in items if isinstance(item, Reasoning)]
    return blake2b(repr(texts).encode()).digest()


def _reminders(items: Iterable[PromptItem]) -> Iterator[str]:
    for item in items:
        if isinstance(item, User | Result):
            yield from (part.text for part in item.parts if isinstance(part, Reminder))


def _settings(ask: Ask) -> dict[str, bytes]:
    options = ask.options
    stated = {
        "model": options.model,
        "system prompt": ask.prompt.instructions,
        "tools": ask.functions,
        "reasoning effort": options.reasoning_effort,
        "template": options.extra_body.get("chat_template"),
        "template arguments": options.extra_body.get("chat_template_kwargs"),
    }
    return {name: blake2b(repr(value).encode()).digest() for name, value in stated.items()}
