"""Run one reader in its environment, and tell what it read from what it rejected and from what did not run."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.rig.home import foreign_free_environment, tail
from tests.rl.environments import CHECKOUT, Environment

# Hugging Face's libraries look for models on the network, and torch for a GPU; nothing here needs either.
LOCAL = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
SECONDS = 600.0


@dataclass(frozen=True)
class Outcome:
    """What became of one reader, in its own words: what it read, or why it did not."""

    reader: str
    status: Literal["read", "rejected", "not run"]
    words: str


@dataclass(frozen=True)
class Run:
    """A program that reads what we wrote: its name for people, its environment, its module and the arguments of it."""

    reader: str
    environment: Environment
    module: str
    arguments: tuple[str, ...] = ()

    def outcome(self, log: Path) -> Outcome:
        """What it printed; a program that failed, or took too long, has rejected what we wrote."""
        if (missing := self.environment.missing) is not None:
            return Outcome(self.reader, "not run", missing)
        command = [str(self.environment.python), "-m", self.module, *self.arguments]
        with log.open("w") as errors:
            try:
                ended = subprocess.run(  # noqa: S603 - our own command
                    command,
                    cwd=CHECKOUT,
                    env=foreign_free_environment() | LOCAL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    timeout=SECONDS,
                )
            except subprocess.TimeoutExpired:
                return Outcome(self.reader, "rejected", f"no end after {SECONDS:.0f} s; its log is {log}")
        if ended.returncode != 0:
            return Outcome(self.reader, "rejected", f"{ended.stdout}{tail(log, 12)}\nits log is {log}")
        return Outcome(self.reader, "read", ended.stdout.strip())


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A paragraph for each reader, those that did not run last: nobody should take silence for success."""
    width = max(len(outcome.reader) for outcome in outcomes)
    for outcome in outcomes:
        if outcome.status != "not run":
            first, *more = f"{'REJECTED: ' * (outcome.status == 'rejected')}{outcome.words}".splitlines()
            yield f"{outcome.reader:<{width}}  {first}"
            yield from (f"{'':<{width}}  {line}" for line in more)
    for outcome in outcomes:
        if outcome.status == "not run":
            yield f"not run: {outcome.reader}, because {outcome.words}"


def failed(outcomes: Sequence[Outcome]) -> bool:
    """What did not run is no failure: it is said, and the rest counts."""
    return any(outcome.status == "rejected" for outcome in outcomes)
