"""How much of the prompts of a tool turn vLLM finds in its prefix cache when every request has another reminder."""

import re
import uuid
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final
from urllib.parse import urljoin

import httpx

from bench.isolated import BrokenRunError
from bench.prefix_cache import SYSTEM
from tests.support.episodes import Episode, Payload, all_tokens, play

STEPS: Final = 10
CITIES: Final = ("Paris", "London", "Berlin", "Tokyo")

TURN: Final = Episode(
    "ten steps with reminders",
    ("What is the weather in Paris?",),
    system=SYSTEM,
    reminders=tuple(f"What is the weather in {CITIES[step % len(CITIES)]}?" for step in range(STEPS)),
)


@dataclass(frozen=True)
class Turn:
    """The calls behind the first one. All numbers are tokens."""

    model: str
    mode: str
    prompt: int
    possible: int
    """What the server had computed before, in full blocks of its cache: the prompt and the reply of the last call."""
    cached: int
    """What it had cached of the prompts."""


async def measure_turn(base_url: str, model: str, mode: str, **config: Any) -> Turn:
    # The tiny models would answer after one result. A unique salt excludes cache entries of other runs.
    always = {"tool_choice": "required", "cache_salt": uuid.uuid4().hex}
    played = await play(base_url, TURN, temperature=0, extra_request_params=always, **config)
    if len(played.calls) < STEPS:
        raise BrokenRunError(f"{model}: the turn ended after {len(played.calls)} of {STEPS} calls")
    block, pairs = await _block_size(base_url), list(pairwise(played.calls))
    return Turn(
        model,
        mode,
        prompt=sum(len(after["prompt_token_ids"]) for _, after in pairs),
        possible=sum(_computed(before) // block * block for before, _ in pairs),
        cached=sum(after["usage"].get("cache_read_tokens") or 0 for _, after in pairs),
    )


def _computed(call: Payload) -> int:
    """The last token of a reply was sampled, but never read."""
    return len(all_tokens(call)) - 1


async def _block_size(base_url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(urljoin(base_url, "/metrics"))).text
    found = re.search(r'[{,]block_size="(\d+)"', text)
    if found is None:
        raise BrokenRunError("the server does not report its cache block size")
    return int(found.group(1))
