"""Sessions of many calls that the tiny models can play, and the token ids of every call of them."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, cycle, pairwise
from typing import Any, Final, Literal

from amplifier_core import HookResult

from tests.rig.replies import Tokens, tokens_of
from tests.rig.tap import Tap
from tests.support.session import Session, open_session, vllm

TOKENS: Final = "llm:tokens"
CITIES: Final = ("Paris", "London", "Berlin", "Tokyo")

SYSTEMS: Final = (
    None,
    "You are a helpful assistant.",
    "Answer briefly. Use the tools for weather and time, and nothing else. Say when you do not know.",
)
CUT: Final = 24
"""Tokens of a round: a reply with a call takes two or three rounds."""

STEPS: Final = tuple(f"Step {step} of at most 10." for step in range(1, 11))

AT_ONCE: Final = 4
"""Sessions side by side: the ids of one must not reach another."""

Payload = Mapping[str, Any]


@dataclass(frozen=True)
class Episode:
    """What a user asks in one session, and what makes its prompts hard to repeat."""

    name: str
    prompts: tuple[str, ...]
    system: str | None = None
    results: Literal["text", "json"] = "text"
    max_tokens: int | None = None
    """The cap of a round. The replies that it cuts are continued."""
    reminders: tuple[str, ...] = ()
    """What a hook adds to the requests of a turn, one after the other: it stands at their end and is not kept."""


@dataclass(frozen=True)
class Played:
    """One session: the payloads of its `llm:tokens` in order, and the tokens of the replies on the wire in any."""

    episode: Episode
    calls: tuple[Payload, ...]
    wire: tuple[Tokens, ...]


def _conversations() -> Iterator[Episode]:
    """A session of every kind for many cities."""
    for city in CITIES:
        yield Episode(f"weather and time in {city}", (f"What is the weather and time in {city}?",))
        yield Episode(f"both in {city}, in other words", (f"Tell me the weather and the time in {city}.",))
        yield Episode(f"preamble in {city}", (f"Say what you do, then check the weather in {city}.",))
    for one, other in combinations(CITIES, 2):
        yield Episode(f"{one} and {other}", (f"Compare the weather in {one} and {other}.",))
    for city, next_city in zip(CITIES, CITIES[1:] + CITIES[:1], strict=True):
        asked = (
            f"What is the weather in {city}?",
            "What is the capital of France?",
            f"How is the weather in {next_city} today?",
        )
        yield Episode(f"three questions, {city} first", asked)
    for city in CITIES[:2]:
        yield Episode(f"a long answer, then {city}", ("Count from 1 to 100.", f"What is the weather in {city}?"))


def _varied(conversations: Iterable[Episode]) -> Iterator[Episode]:
    """The same with system prompts and kinds of results in turn."""
    kinds: Iterator[Literal["text", "json"]] = cycle(("text", "json"))
    for episode, system, results in zip(conversations, cycle(SYSTEMS), kinds, strict=False):
        yield replace(episode, system=system, results=results)


PLAIN: Final = tuple(_varied(_conversations()))
CUT_OFF: Final = tuple(replace(one, name=f"{one.name}, cut off", max_tokens=CUT) for one in PLAIN[:22:2])
REMINDED: Final = tuple(replace(one, name=f"{one.name}, with reminders", reminders=STEPS) for one in PLAIN)
EPISODES: Final = (*PLAIN, *CUT_OFF, *REMINDED)

LEFT_CUT: Final = tuple(replace(one, name=f"{one.name}, cut for good", max_tokens=CUT) for one in PLAIN[22:])
"""Their long answer is longer than all its rounds together. tiny-gpt-oss talks nonsense after one."""

FEW: Final = (PLAIN[0], PLAIN[2], PLAIN[13], PLAIN[18], CUT_OFF[6], REMINDED[1])
"""One of each kind."""


async def play_all(base_url: str, episodes: Sequence[Episode], **config: Any) -> list[Played]:
    """Play the sessions, a few at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def play_in_turn(episode: Episode) -> Played:
        async with turns:
            return await play(base_url, episode, **config)

    return await asyncio.gather(*map(play_in_turn, episodes))


async def play(base_url: str, episode: Episode, **config: Any) -> Played:
    """Play one session with a provider of this config."""
    settings = {"endpoint": "chat", "return_token_ids": True, "max_tokens": episode.max_tokens, **config}
    calls: list[Payload] = []
    async with (
        Tap(base_url, "chat", "completions") as tap,
        open_session(vllm(tap.base_url, **settings), system=episode.system, results=episode.results) as session,
    ):
        _keep_tokens(session, calls)
        if episode.reminders:
            _remind(session, episode.reminders)
        for prompt in episode.prompts:
            await session.ask(prompt)
    return Played(episode, tuple(calls), tuple(tokens_of(reply) for reply in tap.replies))


def _keep_tokens(session: Session, calls: list[Payload]) -> None:
    async def keep(_event: str, data: dict[str, Any]) -> HookResult:
        calls.append(data)
        return HookResult(action="continue")

    session.coordinator.hooks.register(TOKENS, keep, name="keep-tokens")


def _remind(session: Session, reminders: Sequence[str]) -> None:
    async def remind(_event: str, data: dict[str, Any]) -> HookResult:
        text = reminders[(data["iteration"] - 1) % len(reminders)]
        return HookResult(action="inject_context", context_injection=text, ephemeral=True)

    session.coordinator.hooks.register("provider:request", remind, name="remind")


@dataclass(frozen=True)
class FollowUps:
    """The calls behind the first of each session, and how many of them extend the call before."""

    exact: int
    all: int
    sessions: int
    segments: int
    """The rows that training would get: one for each unbroken run of calls."""

    def __str__(self) -> str:
        return f"{self.exact} / {self.all}"


def follow_ups(played: Iterable[Played]) -> FollowUps:
    sessions = [one.calls for one in played]
    exact = [extends(before, after) for calls in sessions for before, after in pairwise(calls)]
    broken = exact.count(False)
    return FollowUps(exact.count(True), len(exact), len(sessions), len(sessions) + broken)


def extends(before: Payload, after: Payload) -> bool:
    """Whether the prompt of a call begins with exactly what the call before was given and sampled."""
    tokens = all_tokens(before)
    return list(after["prompt_token_ids"][: len(tokens)]) == tokens


def all_tokens(call: Payload) -> list[int]:
    """The prompt and the reply of a call."""
    return [*call["prompt_token_ids"], *call["token_ids"]]
