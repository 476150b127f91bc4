"""Sessions on real vLLM, asked by messages and by token ids: how much each prompt keeps of the call before."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any, Final

from bench.warm_turn import Turn, measure_turn
from tests.support.episodes import CUT_OFF, PLAIN, REMINDED, Episode, Payload, Played, all_tokens, follow_ups, play_all

MODES: Final[Mapping[str, Mapping[str, Any]]] = {"messages": {}, "token-in": {"token_in": True}}


@dataclass(frozen=True)
class Case:
    """Sessions, and how they are asked."""

    name: str
    episodes: tuple[Episode, ...]
    config: Mapping[str, Any]


CASES: Final = (
    Case("streamed, temperature 0", PLAIN, {"temperature": 0}),
    Case("unstreamed, temperature 0", PLAIN, {"temperature": 0, "use_streaming": False}),
    Case("streamed, temperature 1", PLAIN, {"temperature": 1}),
    Case("a reminder in every request", REMINDED, {"temperature": 0}),
    Case("replies cut after 24 tokens", CUT_OFF, {"temperature": 0}),
)

DRAWN: Final = PLAIN[-3]
"""Three questions of a user, two of them with a call."""


@dataclass(frozen=True)
class Prompt:
    """The prompt of one call beside the call before. All numbers are tokens."""

    length: int
    before: int
    """What the model had read and written until then."""
    kept: int
    """How much of that this prompt begins with."""


@dataclass(frozen=True)
class Count:
    """One case on one model, in one mode."""

    case: str
    model: str
    mode: str
    exact: int
    followed: int
    sessions: int
    rows: int
    """The rows that training would get: one for each unbroken run of calls."""


@dataclass(frozen=True)
class Drawn:
    """One session, for the picture."""

    model: str
    mode: str
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Drift:
    counts: tuple[Count, ...]
    drawn: tuple[Drawn, ...]
    turns: tuple[Turn, ...]


def prompts_of(calls: Sequence[Payload]) -> tuple[Prompt, ...]:
    first, *_ = calls
    return (Prompt(len(first["prompt_token_ids"]), 0, 0), *(_prompt(*pair) for pair in pairwise(calls)))


def _prompt(before: Payload, after: Payload) -> Prompt:
    known, prompt = all_tokens(before), after["prompt_token_ids"]
    kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(known, prompt, strict=False)))
    return Prompt(len(prompt), len(known), kept)


async def measure_sessions(base_url: str, model: str) -> Drift:
    counts, drawn, turns = list[Count](), list[Drawn](), list[Turn]()
    for mode, keys in MODES.items():
        for case in CASES:
            played = await play_all(base_url, case.episodes, **case.config, **keys)
            counts.append(_count(case, model, mode, played))
            print(counts[-1], file=sys.stderr, flush=True)
        (session,) = await play_all(base_url, [DRAWN], temperature=0, **keys)
        drawn.append(Drawn(model, mode, prompts_of(session.calls)))
        turns.append(await measure_turn(base_url, model, mode, **keys))
        print(turns[-1], file=sys.stderr, flush=True)
    return Drift(tuple(counts), tuple(drawn), tuple(turns))


def _count(case: Case, model: str, mode: str, played: Sequence[Played]) -> Count:
    counted = follow_ups(played)
    return Count(case.name, model, mode, counted.exact, counted.all, counted.sessions, counted.segments)
