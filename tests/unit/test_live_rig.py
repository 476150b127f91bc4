"""The live rig without vLLM: servers are started, shared and replaced, and nothing is left running."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig import environment
from tests.rig.home import CHECKOUT, LiveRigError
from tests.rig.launch import Launch
from tests.rig.server import CommandAt, LiveServer, serve_commands
from tests.rig.slots import Slot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM's CPU wheels, and so the rig, are for Linux")

# Settings of a server that nobody else can be using: its port is not the preferred one.
LAUNCH = Launch("tiny-qwen3", max_model_len=64)

# A stand-in for vLLM: it answers the rig's requests, and has an engine that ignores SIGTERM and has left its process
# group.
STAND_IN = """
import http.server, json, os, signal, subprocess, sys
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
engine = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
print("engine", engine.pid, flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": "tiny-qwen3", "max_model_len": 64}]}).encode())

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

DEAF_STAND_IN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{STAND_IN}"

# Another process that serves the stand-in until it is ended. In a background job of a shell SIGINT would be ignored.
OTHER_PROCESS = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.rig.launch import Launch
from tests.rig.server import serve_commands
launch = Launch("tiny-qwen3", max_model_len=64)
with serve_commands({{launch: lambda port: [sys.executable, "-c", {STAND_IN!r}, str(port)]}}):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _temporary_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_HOME", str(tmp_path))


def python(program: str) -> CommandAt:
    return lambda port: [sys.executable, "-c", program, str(port)]


def processes(server: LiveServer) -> list[int]:
    """The server's and its engine's."""
    engine = server.slot.log.read_text().split("engine ")[1].split()[0]
    return [server.pid, int(engine)]


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def other_process() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", OTHER_PROCESS], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("stand_in", [STAND_IN, DEAF_STAND_IN], ids=["polite", "deaf"])
def test_a_server_and_its_descendants_end_with_the_block(stand_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.rig.server.SECONDS_TO_END", 0.5)

    with serve_commands({LAUNCH: python(stand_in)}) as servers:
        pids = processes(servers[LAUNCH])
        while_it_ran = [is_running(pid) for pid in pids]

    assert while_it_ran == [True, True]
    assert [is_running(pid) for pid in pids] == [False, False]
    assert Slot(LAUNCH.slot).running() is None


def test_a_server_ends_when_the_block_raises() -> None:
    pids = []

    def raise_in_block() -> None:
        with serve_commands({LAUNCH: python(STAND_IN)}) as servers:
            pids.extend(processes(servers[LAUNCH]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        raise_in_block()
    assert [is_running(pid) for pid in pids] == [False, False]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda ending: ending.name)
def test_no_server_outlives_the_process_that_started_it(ending: signal.Signals) -> None:
    owner = other_process()
    running = Slot(LAUNCH.slot).running()
    assert running is not None

    owner.send_signal(ending)
    owner.communicate()

    assert wait_until(lambda: not is_running(running.keeper))
    assert not is_running(running.server)


def test_a_running_server_is_shared_until_its_last_user_ends() -> None:
    owner = other_process()

    with serve_commands({LAUNCH: python("raise SystemExit('a second server was started')")}) as servers:
        owner.kill()
        owner.communicate()
        time.sleep(1)
        shared = servers[LAUNCH]
        pids = processes(shared)
        while_shared = [is_running(pid) for pid in pids]

    assert not shared.started
    assert while_shared == [True, True]
    assert [is_running(pid) for pid in pids] == [False, False]


def test_a_detached_server_outlives_its_users_until_it_is_attached_again() -> None:
    with serve_commands({LAUNCH: python(STAND_IN)}) as servers:
        slot = servers[LAUNCH].slot
        slot.detach(True)
    with serve_commands({LAUNCH: python(STAND_IN)}) as servers:
        found = servers[LAUNCH]

    lease = slot.take_lease()
    slot.detach(False)
    slot.drop_lease(lease)

    assert not found.started
    assert [is_running(pid) for pid in processes(found)] == [False, False]


def test_a_server_with_other_settings_is_replaced() -> None:
    with serve_commands({LAUNCH: python(STAND_IN)}) as servers:
        slot = servers[LAUNCH].slot
        slot.detach(True)
        running = slot.running()
    assert running is not None
    slot.file("json").write_text(slot.file("json").read_text().replace('"max_model_len": 64', '"max_model_len": 128'))

    with serve_commands({LAUNCH: python(STAND_IN)}) as servers:
        replaced = servers[LAUNCH]

    assert replaced.started
    assert not is_running(running.server)


def test_a_server_that_does_not_start_fails_with_the_end_of_its_log() -> None:
    failing = python("print('the engine caught fire'); raise SystemExit(1)")

    with (
        pytest.raises(LiveRigError, match=r"(?s)tiny-qwen3 did not start.*the engine caught fire"),
        serve_commands({LAUNCH: failing}),
    ):
        pass

    assert not Slot(LAUNCH.slot).is_alive()


def test_an_environment_is_not_rebuilt_under_a_running_server() -> None:
    with (
        serve_commands({LAUNCH: python(STAND_IN)}) as servers,
        pytest.raises(LiveRigError, match=f"{servers[LAUNCH].slot.name} still runs from the old"),
    ):
        environment.ensure_environment()
