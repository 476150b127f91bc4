"""Serve tiny models with real vLLM on 127.0.0.1 for as long as a block runs, sharing servers that are already up."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from tests.rig.environment import ensure_environment
from tests.rig.home import CHECKOUT, LiveRigError, tail
from tests.rig.launch import LOOPBACK, Launch, reserve_port
from tests.rig.locks import POLL_SECONDS, hold_lock
from tests.rig.models import ensure_model
from tests.rig.progress import Progress
from tests.rig.room import room_for
from tests.rig.slots import Running, Slot

SECONDS_TO_START = 600.0
SECONDS_TO_END = 10.0
# A busy server on a small machine can be slow to answer a health check.
SECONDS_TO_ANSWER = 30.0


CommandAt = Callable[[int], list[str]]

# A proxy meant for the internet must not see requests to this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class LiveServer:
    """A vLLM server that answers."""

    model: str
    base_url: str
    api_key: str | None
    started: bool
    """Whether it was started for this block, not found running."""
    pid: int
    """vLLM's own process; its engine and workers are its children."""
    slot: Slot


@contextmanager
def serve_model(
    model: str,
    *,
    parsers: bool = True,
    store: bool = False,
    api_key: str | None = None,
    max_model_len: int = 4096,
    extra_flags: tuple[str, ...] = (),
) -> Iterator[LiveServer]:
    """One tiny model behind a real vLLM server, set up on first use; gone when the last block that uses it ends."""
    with serve_launches([Launch(model, parsers, store, api_key, max_model_len, extra_flags)]) as (server,):
        yield server


@contextmanager
def serve_models(models: Sequence[str]) -> Iterator[list[LiveServer]]:
    """Several tiny models at the same time, started side by side; the servers in the order of the names."""
    with serve_launches([Launch(model) for model in models]) as servers:
        yield servers


@contextmanager
def serve_launches(launches: Sequence[Launch]) -> Iterator[list[LiveServer]]:
    """Servers with these settings, started side by side; the servers in the order of the settings."""
    vllm_bin = ensure_environment()
    folders = {launch: ensure_model(launch.tiny, vllm_bin) for launch in launches}
    with serve_commands(
        {launch: partial(launch.command, vllm_bin, folder) for launch, folder in folders.items()}
    ) as servers:
        yield [servers[launch] for launch in launches]


@contextmanager
def serve_commands(commands: Mapping[Launch, CommandAt]) -> Iterator[dict[Launch, LiveServer]]:
    """Servers that answer for as long as the block runs: those that are up already, else what the commands start."""
    with ExitStack() as leases:
        with ExitStack() as alone:
            # In one order everywhere, so that two processes that want the same two servers cannot wait for each other.
            for launch in sorted(commands, key=lambda launch: launch.slot):
                _alone(launch, alone)
            starts = [Start(launch, command_at, leases) for launch, command_at in commands.items()]
            _begin([start for start in starts if start.started])
            _wait_until_ready(starts)
        yield {start.launch: start.server() for start in starts}


class Start:
    """One server on its way up: found in its slot, or put there."""

    def __init__(self, launch: Launch, command_at: CommandAt, leases: ExitStack) -> None:
        self.launch = launch
        self.slot = Slot(launch.slot)
        self._command_at = command_at
        lease = self.slot.take_lease()
        self.running = self.slot.running()
        if self.running is None or not answers(self.running, launch.api_key):
            lease = self._clear(lease)
            self.running = None
        leases.callback(self.slot.drop_lease, lease)
        self.started = self.running is None

    def begin(self) -> None:
        """Put the server into its slot."""
        with hold_lock(self.slot.file("alive"), waiting=lambda: None) as alive, self.slot.log.open("w") as log:
            self.slot.remember(None)
            with reserve_port(self.launch.tiny.port if self.launch.plain else 0) as reservation:
                port: int = reservation.getsockname()[1]
                keeper = [sys.executable, "-m", "tests.rig.keeper"]
                terms = [str(self.slot.file("lease")), str(self.slot.file("detached")), str(SECONDS_TO_END)]
                started = subprocess.run(  # noqa: S603 - our own command
                    [*keeper, *terms, *self._command_at(port)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=CHECKOUT,
                    env=self.launch.environment(),
                    # From here on the lock and the port are held by the keeper.
                    pass_fds=(alive, reservation.fileno()),
                    start_new_session=True,
                    check=True,
                )
        if started.stdout == b"":
            raise self._start_error()
        by, server = map(int, started.stdout.split())
        self.running = Running(self.launch.model, port, self.launch.max_model_len, by, server, since=time.time())
        self.slot.remember(self.running)

    def ready(self) -> bool:
        """Whether it answers correctly; raises if it never will."""
        if not self.slot.is_alive():
            raise self._start_error()
        return self.running is not None and answers(self.running, self.launch.api_key)

    def server(self) -> LiveServer:
        assert self.running is not None
        return LiveServer(
            model=self.launch.model,
            base_url=self.running.base_url,
            api_key=self.launch.api_key,
            started=self.started,
            pid=self.running.server,
            slot=self.slot,
        )

    def _start_error(self) -> LiveRigError:
        return LiveRigError(f"{self.launch.model} did not start; the end of {self.slot.log}:\n{tail(self.slot.log)}")

    def _clear(self, lease: int) -> int:
        """A lease on a slot in which nothing runs, whatever was there."""
        self.slot.detach(False)
        if not self.slot.is_alive():
            return lease
        self.slot.drop_lease(lease)
        if self.slot.is_alive():
            raise LiveRigError(f"{self.slot.name} does not answer, and another process uses it; see {self.slot.log}")
        return self.slot.take_lease()


def answers(running: Running, api_key: str | None) -> bool:
    """Whether it is healthy and serves the recorded model with the recorded length."""
    if _get(f"http://{LOOPBACK}:{running.port}/health", api_key) is None:
        return False
    cards = _get(f"{running.base_url}/models", api_key)
    serve_commands = (
        [] if cards is None else [(card["id"], card["max_model_len"]) for card in json.loads(cards)["data"]]
    )
    return serve_commands == [(running.model, running.max_model_len)]


def _get(url: str, api_key: str | None) -> bytes | None:
    """The body, or None when the server does not answer with success."""
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - always http on the loopback
    try:
        with _opener.open(request, timeout=SECONDS_TO_ANSWER) as response:
            body: bytes = response.read()
            return body
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def _alone(launch: Launch, alone: ExitStack) -> None:
    with Progress(f"another process is starting {launch.model}") as progress:
        alone.enter_context(hold_lock(Slot(launch.slot).file("starting"), progress.tick))


def _begin(starts: Sequence[Start]) -> None:
    if starts:
        with room_for([start.launch.model for start in starts]):
            for start in starts:
                start.begin()


def _wait_until_ready(starts: Sequence[Start]) -> None:
    names = " and ".join(start.launch.model for start in starts)
    with Progress(f"starting vLLM with {names}") as progress:
        waiting = list(starts)
        while waiting:
            for start in [start for start in waiting if start.ready()]:
                waiting.remove(start)
                if start.started:
                    url = start.server().base_url
                    progress.line(f"{start.launch.model} is up on {url} after {progress.seconds:.1f} s")
            if waiting and progress.seconds > SECONDS_TO_START:
                raise LiveRigError(f"{waiting[0].launch.model} does not answer; see {waiting[0].slot.log}")
            if waiting:
                progress.tick()
                time.sleep(POLL_SECONDS)
