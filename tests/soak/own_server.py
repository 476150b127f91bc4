"""A vLLM server for one test, which may kill it or its engine and restart it on the same port."""

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.rig.environment import ensure_environment
from tests.rig.home import CHECKOUT, home
from tests.rig.launch import LOOPBACK, Launch, reserve_port
from tests.rig.models import ensure_model
from tests.rig.server import SECONDS_TO_START, answers
from tests.rig.slots import Running

ENGINE = b"VLLM::EngineCore"
TICKS_TO_END = 100


class OwnServer:
    """`base_url` is fixed before the start: `start()` begins, `wait_until_ready()` waits until it answers."""

    def __init__(self, model: str) -> None:
        self._launch = Launch(model)
        with reserve_port(0) as reservation:
            self._port: int = reservation.getsockname()[1]
        self.base_url = f"http://{LOOPBACK}:{self._port}/v1"
        self.log = home() / "run" / f"soak-{self._port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._logging: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.end()
        self.log.unlink(missing_ok=True)

    def start(self) -> None:
        vllm_bin = ensure_environment()
        command = self._launch.command(vllm_bin, ensure_model(self._launch.tiny, vllm_bin), self._port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._logging = self.log.open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._logging,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=self._launch.environment(),
            start_new_session=True,  # so that all its processes can be ended together
        )

    async def wait_until_ready(self) -> None:
        running = Running(self._launch.model, self._port, self._launch.max_model_len, 0, 0, since=time.time())
        async with asyncio.timeout(SECONDS_TO_START):
            while not await asyncio.to_thread(answers, running, None):
                assert self._process is not None
                assert self._process.poll() is None, f"vLLM ended; see {self.log}"
                await asyncio.sleep(0.2)

    def kill(self) -> None:
        """Kill the API server with SIGKILL."""
        assert self._process is not None
        self._process.kill()

    def kill_engine(self) -> None:
        assert self._process is not None
        (engine,) = (pid for pid in _descendants(self._process.pid) if _command(pid).startswith(ENGINE))
        os.kill(engine, signal.SIGKILL)

    async def end(self) -> None:
        """End all its processes."""
        if self._process is None or self._logging is None:
            return
        for _ in range(TICKS_TO_END):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if self._process.poll() is not None and not _group_runs(self._process.pid):
                break
            await asyncio.sleep(0.1)
        self._logging.close()
        self._process = None


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(deeper for child in children for deeper in _descendants(child))]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _group_runs(leader: int) -> bool:
    """Whether any process of the group runs; zombies do not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _parent, group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(group) == leader and state != "Z":
                return True
    return False
