"""What a training conversation is made of, and the noise that it is buried in."""

import pydoc_data.topics
import random
import re
from dataclasses import dataclass
from typing import Any, Literal

PROSE = re.sub(r"[^\x20-\x7e\n]", "", "\n".join(pydoc_data.topics.topics.values()))
WORDS = sorted(set(re.findall(r"[A-Za-z]{3,9}", PROSE)))

Schema = dict[str, Any]


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    parameters: Schema


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One message: what a user asks, what a tool answers, or a model's turn."""

    role: Literal["user", "assistant", "tool"]
    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()


def prose(rng: random.Random, shortest: int, longest: int) -> str:
    """A passage of English that means nothing to the models: noise to look through."""
    length = rng.randint(shortest, longest)
    start = rng.randrange(len(PROSE) - length)
    return PROSE[start : start + length].strip()


def words(rng: random.Random, fewest: int, most: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(fewest, most)))
