"""Real sessions with a real model, recorded as a user records them: what the readers read."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amplifier_core import HookResult

from amplifier_module_provider_vllm.rl import (
    Trajectory,
    agent_lightning_events,
    read_trajectories,
    to_atif,
    to_rows,
    trl_rollouts,
    trl_sft,
    verifiers_trace,
    write_jsonl,
    write_parquet,
)
from tests.rig.server import LiveServer
from tests.support.session import open_session, vllm

AT_ONCE = 4


@dataclass(frozen=True)
class Task:
    """What a user asks in one session, turn by turn, and what the last answer must say for the reward."""

    turns: tuple[str, ...]
    expected: str


SKY = {"Paris": "sunny", "Berlin": "snowy", "London": "rainy", "Tokyo": "sunny"}
TASKS = (
    # The tiny model is wrong about Paris and Tokyo here: rewards differ.
    *(Task((f"What is the weather and time in {city}?",), sky) for city, sky in SKY.items()),
    *(Task((f"Say what you do, then check the weather in {city}.",), sky) for city, sky in SKY.items()),
    *(Task((f"Compare the weather in {city} and London.",), "both cities") for city in ("Paris", "Berlin", "Tokyo")),
    Task(("What is the weather in Paris?", "What is the weather in Berlin?"), "snowy"),
    Task(("What is the capital of France?", "What is the weather in London?"), "rainy"),
    Task(("What is the capital of Japan?",), "Tokyo"),
)


@dataclass(frozen=True)
class Ran:
    """A session that has ended: its id, the payloads of its `llm:tokens` events, and its reward."""

    session_id: str
    calls: list[dict[str, Any]]
    reward: float


async def write_sessions(server: LiveServer, folder: Path) -> str:
    """Run all tasks, write everything that a reader reads, and say how much that is."""
    turns = asyncio.Semaphore(AT_ONCE)
    recorded = folder / "recorded"

    async def run(task: Task) -> Ran:
        async with turns:
            return await _run(server, task, recorded)

    ran = await asyncio.gather(*map(run, TASKS))
    write_jsonl(folder / "heard.jsonl", [{"session_id": one.session_id, "calls": one.calls} for one in ran])
    rewards = {one.session_id: one.reward for one in ran}
    plain = list(read_trajectories(recorded))
    trajectories = [one.with_reward(rewards[one.session_id]) for one in plain]
    (folder / "recorded.jsonl").write_text("".join(file.read_text() for file in sorted(recorded.glob("*.jsonl"))))
    _export(trajectories, folder)
    calls = sum(len(one.calls) for one in ran)
    return f"{len(trajectories)} sessions, {calls} model calls, {sum(len(one.segments) for one in trajectories)} rows"


async def _run(server: LiveServer, task: Task, recorded: Path) -> Ran:
    provider = vllm(
        server.base_url,
        default_model=server.model,
        endpoint="chat",
        return_token_ids=True,
        token_in=True,
        temperature=0,
    )
    hook = {"module": "hooks-vllm-tokens", "config": {"path": str(recorded), "format": "atif"}}
    calls: list[dict[str, Any]] = []

    async def hear(_event: str, data: dict[str, Any]) -> HookResult:
        calls.append(data)
        return HookResult(action="continue")

    async with open_session(provider, hooks=[hook]) as session:
        session.coordinator.hooks.register("llm:tokens", hear, name="hear")
        answers = [await session.ask(turn) for turn in task.turns]
        session_id: str = session.coordinator.session_id
    return Ran(session_id, calls, float(task.expected in answers[-1]))


def _export(trajectories: Sequence[Trajectory], folder: Path) -> None:
    """Each form in which a reader wants them, one file each."""
    rows = [row for trajectory in trajectories for row in to_rows(trajectory)]
    write_jsonl(folder / "trajectories.jsonl", map(to_atif, trajectories))
    write_jsonl(folder / "rows.jsonl", rows)
    write_parquet(folder / "rows.parquet", rows)
    write_jsonl(folder / "trl_sft.jsonl", [row for one in trajectories for row in trl_sft(one)])
    (folder / "trl_rollouts.json").write_text(json.dumps(trl_rollouts(trajectories)))
    write_jsonl(folder / "verifiers.jsonl", map(verifiers_trace, trajectories))
    lightning = [
        {"session_id": one.session_id, "reward": one.reward, "events": agent_lightning_events(one)}
        for one in trajectories
    ]
    write_jsonl(folder / "lightning.jsonl", lightning)
