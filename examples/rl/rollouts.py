"""Run many sessions as Agent Lightning rollouts, and say what its trainer gets: `python -m examples.rl.rollouts`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from math import isclose
from pathlib import Path
from typing import Any

import httpx

from amplifier_module_provider_vllm.rl import Trajectory, read_trajectories
from examples.rl.lightning import Triplet, Triplets, local_controller, serve_lightning, triplets

AGENT = "examples.rl.agent:AmplifierAgent"
SECONDS = 540.0
# What the tools of the agent know. tiny-qwen3 is wrong about some of it.
SKY = {"Paris": "sunny", "Berlin": "snowy", "London": "rainy", "Tokyo": "sunny"}
TASKS = [
    *(((f"What is the weather and time in {city}?",), f"{sky} 14") for city, sky in SKY.items()),
    # At a new user turn the model's template drops the thoughts of earlier ones: messages drift here, ids do not.
    *(
        ((f"What is the capital of {country}?", f"What is the weather in {city}?"), SKY[city])
        for country, city in {"France": "Paris", "Germany": "Berlin", "England": "London", "Japan": "Tokyo"}.items()
    ),
]


@dataclass(frozen=True)
class Batch:
    """What all rollouts of a run share."""

    vllm: str
    model: str
    rollouts: int
    processes: int
    token_in: bool
    folder: Path

    def requests(self) -> Iterator[dict[str, Any]]:
        """The body of each rollout: the task, and how it becomes the environment of the agent's process."""
        same = {"MODEL": self.model, "TOKENIZE_URL": self.vllm, "RECORDED": str(self.recorded)}
        tasks = {"QUESTIONS": "input.questions", "EXPECTED": "input.expected", "TOKEN_IN": "input.token_in"}
        for number, (questions, expected) in zip(range(self.rollouts), cycle(TASKS), strict=False):
            name = f"rollout-{number}"
            environment = {**same, **tasks, "SESSION_ID": name}
            yield {
                "rollout_id": name,
                "input": {"data_id": name, "questions": questions, "expected": expected, "token_in": self.token_in},
                "config": {"timeout_seconds": 300, "local": {"agent_class": AGENT, "env_map": environment}},
            }

    @property
    def recorded(self) -> Path:
        """Where the sessions write their own trajectories."""
        return self.folder / "recorded"


@dataclass(frozen=True)
class Finished:
    """All rollouts: their states, what the trainer reads of each, and which of them their sessions recorded equally."""

    states: Counter[str]
    read: Mapping[str, Triplets]
    recorded: Collection[str]
    seconds: float

    @property
    def calls(self) -> list[Triplet]:
        return [call for one in self.read.values() for call in one.calls]

    @property
    def follow_ups(self) -> list[bool]:
        return [exact for one in self.read.values() for exact in one.exact]

    @property
    def complete(self) -> bool:
        """Whether every rollout succeeded, with a logprob for each token, and recorded what the gateway saw."""
        aligned = all(one.aligned for one in self.read.values())
        return set(self.states) == {"succeeded"} and aligned and len(self.recorded) == len(self.read)

    def lines(self) -> Iterator[str]:
        """What people want to know."""
        rewards = [value for one in self.read.values() for value in one.rewards]
        states = ", ".join(f"{count} {state}" for state, count in self.states.items())
        sampled = sum(len(ids) for _, ids, _ in self.calls) / self.seconds
        yield f"rollouts    {states}, in {self.seconds:.0f} s"
        yield f"follow-ups  {sum(self.follow_ups)} of {len(self.follow_ups)} exact, in {len(self.calls)} model calls"
        yield f"recorded    {len(self.recorded)} of {len(self.read)} trajectories equal to what the gateway recorded"
        yield f"reward      {sum(rewards) / max(1, len(rewards)):.2f} on average, of {len(rewards)} rollouts"
        yield f"throughput  {len(self.read) / self.seconds:.2f} rollouts/s, {sampled:.0f} sampled tokens/s"


def main() -> int:
    batch = _arguments()
    batch.folder.mkdir(parents=True, exist_ok=True)
    finished = run(batch)
    print("\n".join(finished.lines()))
    return 0 if finished.complete and (all(finished.follow_ups) or not batch.token_in) else 1


def run(batch: Batch) -> Finished:
    """Start Agent Lightning, queue the rollouts, and wait for the last of them."""
    with ExitStack() as running:
        server = running.enter_context(serve_lightning(batch.folder, batch.model))
        replica = {"model": batch.model, "endpoint": f"{batch.vllm.removesuffix('/v1')}/v1", "version": 0}
        server.post("api/models", json=[replica]).raise_for_status()
        server.post("api/rollouts", json=list(batch.requests())).raise_for_status()
        started = time.monotonic()
        running.enter_context(local_controller(batch.folder, server, batch.processes))
        ended = _wait_for_all(server, batch.rollouts)
        seconds = time.monotonic() - started
        read = {one["rollout_id"]: triplets(server, one["rollout_id"]) for one in ended}
        own = {one.session_id: one for one in read_trajectories(batch.recorded)}
        equal = [name for name, one in read.items() if name in own and recorded_equally(own[name], one)]
        return Finished(Counter(one["state"] for one in ended), read, equal, seconds)


def recorded_equally(own: Trajectory, gateway: Triplets) -> bool:
    """Whether the session's recorder has the ids and logprobs that the gateway saw."""
    ids = [(list(call.prompt_token_ids), list(call.token_ids)) for call in own.calls]
    logprobs = [number for call in own.calls for number in call.logprobs or ()]
    seen = [number for _, _, numbers in gateway.calls for number in numbers or ()]
    # The kernel copies events as JSON, which changes the last bit of some numbers.
    close = len(logprobs) == len(seen) and all(map(isclose, logprobs, seen))
    return close and ids == [(prompt, sampled) for prompt, sampled, _ in gateway.calls]


def _wait_for_all(server: httpx.Client, rollouts: int) -> list[dict[str, Any]]:
    """The rollouts that have ended. Raises if some have not in time."""
    deadline = time.monotonic() + SECONDS
    while True:
        answer = server.get("api/rollouts/terminal")
        answer.raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        if len(items) >= rollouts:
            return items
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(items)} of {rollouts} rollouts ended within {SECONDS:.0f} s")
        time.sleep(0.5)


def _arguments() -> Batch:
    parser = argparse.ArgumentParser(prog="python -m examples.rl.rollouts", description=__doc__)
    parser.add_argument("--vllm", required=True, help="the URL of a vLLM server")
    parser.add_argument("--model", default="tiny-qwen3")
    parser.add_argument("--rollouts", type=int, default=60)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--message-mode", action="store_true", help="send messages instead of ids")
    parser.add_argument("--folder", type=Path, default=Path(".rl") / "rollouts", help="for logs and trajectories")
    given = parser.parse_args()
    return Batch(
        given.vllm, given.model, given.rollouts, given.processes, not given.message_mode, given.folder.absolute()
    )


if __name__ == "__main__":
    sys.exit(main())
