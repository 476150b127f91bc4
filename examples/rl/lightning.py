"""Agent Lightning 1.0 on this machine: its server, its local controller, and what its trainer reads from them."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

HOST = "127.0.0.1"
SECONDS_TO_START = 60.0
SECONDS_TO_END = 20.0

Triplet = tuple[list[int], list[int], list[float] | None]


@dataclass(frozen=True)
class Triplets:
    """One rollout as the trainer reads it: prompt ids, sampled ids and logprobs of each call; the rewards."""

    calls: list[Triplet]
    rewards: list[float]

    @property
    def exact(self) -> list[bool]:
        """For each call after the first, whether its prompt begins with the prompt and the reply before."""
        pairs = zip(self.calls, self.calls[1:], strict=False)
        return [later[0][: len(one[0]) + len(one[1])] == one[0] + one[1] for one, later in pairs]

    @property
    def aligned(self) -> bool:
        """Whether each sampled id has its logprob."""
        return all(logprobs is not None and len(logprobs) == len(ids) for _, ids, logprobs in self.calls)


@contextmanager
def serve_lightning(folder: Path, model: str) -> Iterator[httpx.Client]:
    """A client of a server that runs as long as the block; the folder takes its log."""
    url = f"http://{HOST}:{_free_port()}"
    options = (f"host={HOST}", f"port={url.rpartition(':')[2]}", f"default_proxy.model_name={model}")
    with (
        _running("agentlightning.server", options, folder) as server,
        # A proxy meant for the internet must not see requests to this machine.
        httpx.Client(base_url=url, trust_env=False, timeout=60.0) as client,
    ):
        _wait_until_healthy(client, server)
        yield client


@contextmanager
def local_controller(folder: Path, server: httpx.Client, processes: int) -> Iterator[None]:
    """Run the rollouts that the server has queued, so many at a time, each in a process of its own."""
    options = ("runner_type=local", f"agl_server.url={str(server.base_url).rstrip('/')}")
    pool = (f"local_runner.maximum_size={processes}", "local_runner.poll_interval=0.5")
    with _running("agentlightning.controller", (*options, *pool), folder):
        yield


def triplets(server: httpx.Client, rollout_id: str) -> Triplets:
    """The events of a rollout in the form in which the trainer asks for them."""
    answer = server.get(f"api/rollouts/{rollout_id}/events", params={"format": "triplet"})
    answer.raise_for_status()
    calls: list[Triplet] = []
    rewards: list[float] = []
    for event in answer.json():
        data: dict[str, Any] = event["data"]
        match event["event_type"]:
            case "model_request":
                calls.append((data["prompt_token_ids"], data["response_token_ids"], data["response_log_probs"]))
            case "reward":
                rewards.append(data["value"])
            case _:
                pass
    return Triplets(calls, rewards)


@contextmanager
def _running(module: str, options: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", module, *options, f"hydra.run.dir={folder / module}"]
    with (folder / f"{module}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - our own command
        try:
            yield process
        finally:
            process.terminate()
            process.wait(SECONDS_TO_END)


def _wait_until_healthy(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        if server.poll() is not None:
            raise RuntimeError(f"Agent Lightning's server ended with status {server.returncode}; see its log")
        try:
            client.get("healthz").raise_for_status()
            return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
        return port
