"""Agent Lightning's server takes our events, and gives back the triplets that its trainer learns from."""

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx

from examples.rl.lightning import serve_lightning, triplets
from tests.rl.readers.written import Line, Written, require


def read(written: Written) -> Iterator[str]:
    heard, sessions = written.heard(), written.lines("lightning.jsonl")
    with tempfile.TemporaryDirectory() as folder, serve_lightning(Path(folder), "tiny-qwen3") as server:
        rollouts = [{"rollout_id": line["session_id"], "input": {"data_id": line["session_id"]}} for line in sessions]
        _post(server, "rollouts", rollouts)
        for line in sessions:
            for event in line["events"]:
                _post(server, f"rollouts/{line['session_id']}/attempt/0/events", event)
        for line in sessions:
            session = line["session_id"]
            require(_calls(heard[session]), triplets(server, session).calls, f"the triplets of {session}")
            require([line["reward"]], triplets(server, session).rewards, f"the reward of {session}")
    calls = sum(map(len, heard.values()))
    yield f"{version('agentlightning')}: events of {len(sessions)} rollouts taken, {calls} triplets equal, with rewards"


def _post(server: httpx.Client, path: str, body: object) -> None:
    answer = server.post(f"api/{path}", json=body)
    answer.raise_for_status()


def _calls(heard: list[Line]) -> list[object]:
    return [(call["prompt_token_ids"], call["token_ids"], call["logprobs"]) for call in heard]
