"""The live rig's memory accounting without vLLM: free memory, needs of new servers, and waiting."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import room
from tests.rig.home import CHECKOUT, LiveRigError
from tests.rig.launch import Launch
from tests.rig.memory import GIB, Claim, Memory, free_bytes, limit_bytes, used_bytes
from tests.rig.models import TINY_MODELS
from tests.rig.server import serve_commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM's CPU wheels, and so the rig, are for Linux")

STORING = Launch("tiny-qwen3", store=True)
MEBIBYTE = 2**20

# Allocates memory and holds it until its input ends.
GREEDY = f"import sys; kept = bytearray(b'x') * (64 * {MEBIBYTE}); print('up', flush=True); sys.stdin.read()"
GREEDY_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GREEDY!r}])"

STAND_IN = """
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": "tiny-qwen3", "max_model_len": 4096}]}).encode())

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# Another process of the same home, about to start a server.
STARTING = """
import sys
from tests.rig.room import room_for
with room_for(["tiny-qwen3"]):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _temporary_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_HOME", str(tmp_path))
    monkeypatch.delenv("VLLM_TEST_MEMORY", raising=False)


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda: GIB)
    monkeypatch.setattr(room, "SECONDS_TO_WAIT", 0.2)
    monkeypatch.setattr(room, "SECONDS_BETWEEN_LOOKS", 0.05)


@contextmanager
def start_program(program: str) -> Iterator[subprocess.Popen[str]]:
    """A running program that has printed its first line."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        pytest.param(Memory(free=20 * GIB, limit=16 * GIB), 16.0, id="the limit is less"),
        pytest.param(Memory(free=8 * GIB, limit=16 * GIB), 7.5, id="what is free is less, and some is left over"),
        pytest.param(Memory(free=20 * GIB, limit=16 * GIB, claims=[Claim(3 * GIB, 3 * GIB)]), 13.0, id="one runs"),
        pytest.param(Memory(free=8 * GIB, limit=16 * GIB, claims=[Claim(3 * GIB, GIB)]), 5.5, id="one is starting"),
        pytest.param(Memory(free=8 * GIB, limit=16 * GIB, claims=[Claim(3 * GIB, 4 * GIB)]), 7.5, id="one uses more"),
        pytest.param(
            Memory(free=20 * GIB, limit=6 * GIB, claims=[Claim(3 * GIB, 4 * GIB)]), 2.0, id="of the limit too"
        ),
        pytest.param(Memory(free=GIB // 4, limit=16 * GIB), 0.0, id="nothing is free"),
        pytest.param(Memory(free=9 * GIB, limit=2 * GIB, claims=[Claim(3 * GIB, 0)]), 0.0, id="over the limit"),
    ],
)
def test_the_room_is_free_memory_minus_the_unused_claims_of_running_servers(memory: Memory, expected: float) -> None:
    assert memory.room == expected * GIB


@pytest.mark.parametrize(("text", "gib"), [(None, 16), ("", 16), ("6", 6), ("2.5", 2.5)])
def test_all_servers_together_stay_within_the_configured_limit(
    text: str | None, gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        monkeypatch.setenv("VLLM_TEST_MEMORY", text)

    assert limit_bytes() == gib * GIB


def test_a_limit_that_is_not_a_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_MEMORY", "plenty")

    with pytest.raises(LiveRigError, match="VLLM_TEST_MEMORY must be a number of GiB, such as 6, not 'plenty'"):
        limit_bytes()


def machine(root: Path, cgroup: str = "0::/\n", **files: str) -> Path:
    """A root folder with 8,000 kB of memory available, and these other files; their names have __ for a slash."""
    for name, text in {"proc__meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n", **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text(cgroup)
    return root


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_without_a_cgroup_limit_the_memory_of_the_machine_counts(tmp_path: Path) -> None:
    root = machine(tmp_path)
    write(root / "sys/fs/cgroup", memory__max="max", memory__current=1)

    assert free_bytes(root) == 8000 * 1024


def test_a_container_has_the_rest_of_its_limit_plus_reclaimable_cache(tmp_path: Path) -> None:
    root = machine(tmp_path)
    write(
        root / "sys/fs/cgroup",
        memory__max=5_000_000,
        memory__current=3_000_000,
        memory__stat="anon 1\ninactive_file 500000",
    )

    assert free_bytes(root) == 2_500_000


@pytest.mark.parametrize(("inner", "outer", "left"), [(900, 500, 400), (300, 500, 200)], ids=["outer", "inner"])
def test_the_narrowest_of_nested_limits_counts(tmp_path: Path, inner: int, outer: int, left: int) -> None:
    root = machine(tmp_path, cgroup="0::/user/session\n")
    write(root / "sys/fs/cgroup/user", memory__max=outer, memory__current=100, memory__stat="")
    write(root / "sys/fs/cgroup/user/session", memory__max=inner, memory__current=100, memory__stat="")

    assert free_bytes(root) == left


def test_a_cgroup_of_version_1_is_read_even_where_its_path_is_the_hosts(tmp_path: Path) -> None:
    root = machine(tmp_path, cgroup="3:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n")
    write(
        root / "sys/fs/cgroup/memory",
        memory__limit_in_bytes=5_000_000,
        memory__usage_in_bytes=4_000_000,
        memory__stat="inactive_file 1\ntotal_inactive_file 70000",
    )

    assert free_bytes(root) == 1_070_000


def test_usage_above_the_limit_leaves_zero(tmp_path: Path) -> None:
    root = machine(tmp_path)
    write(root / "sys/fs/cgroup", memory__max=100, memory__current=200, memory__stat="")

    assert free_bytes(root) == 0


@pytest.mark.parametrize(("nodes", "free"), [(1, 8000), (2, 1000)], ids=["one node", "two nodes"])
def test_of_several_memory_nodes_the_one_of_the_first_cpu_counts(tmp_path: Path, nodes: int, free: int) -> None:
    root = machine(tmp_path)
    for number in range(nodes):
        counts = {"MemTotal": 4500, "MemFree": 700, "Active(file)": 150, "Inactive(file)": 100, "SReclaimable": 50}
        counts_text = "\n".join(f"Node {number} {name}: {kilobytes} kB" for name, kilobytes in counts.items())
        write(root / f"sys/devices/system/node/node{number}", meminfo=counts_text)
    first = min(os.sched_getaffinity(0))
    (root / f"sys/devices/system/cpu/cpu{first}/node{nodes - 1}").mkdir(parents=True)

    assert free_bytes(root) == free * 1024


def test_free_memory_of_this_machine_is_between_zero_and_its_total() -> None:
    name, total, unit = Path("/proc/meminfo").read_text().splitlines()[0].split()

    assert (name, unit) == ("MemTotal:", "kB")
    assert 0 < free_bytes() <= int(total) * 1024


@pytest.mark.parametrize("program", [GREEDY, GREEDY_CHILD], ids=["itself", "its child"])
def test_the_memory_of_a_server_includes_its_children(program: str) -> None:
    with start_program(program) as process:
        used = used_bytes(process.pid)

    assert 64 * MEBIBYTE < used < 200 * MEBIBYTE


def test_an_ended_process_uses_no_memory() -> None:
    with start_program("print()") as process:
        pass

    assert used_bytes(process.pid) == 0


@pytest.mark.usefixtures("_little_memory")
def test_the_error_for_missing_memory_names_the_need_and_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(LiveRigError) as failure, room.room_for(["tiny-qwen3", "tiny-gpt-oss"]):
        pass

    need = sum(model.memory for model in TINY_MODELS.values()) / GIB
    words = str(failure.value)
    assert words.startswith("No memory for tiny-qwen3 and tiny-gpt-oss after 0 s")
    assert f"{need:.1f} GiB needed, 0.5 GiB to be had" in words
    assert "The machine has 1.0 GiB free; all servers of" in words
    assert "may take 16 GiB. Running: none." in words
    assert "`python -m tests.rig status`" in words
    assert "set VLLM_TEST_MEMORY to more" in words
    assert f"waiting for {need:.1f} GiB of memory for tiny-qwen3 and tiny-gpt-oss … 0 s" in capsys.readouterr().err


def test_a_need_above_the_limit_fails_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_TEST_MEMORY", "0.5")

    with (
        pytest.raises(LiveRigError, match=r"2.0 GiB needed, .* may take 0.5 GiB; set VLLM_TEST_MEMORY to more"),
        room.room_for(["tiny-qwen3"]),
    ):
        pass
    assert capsys.readouterr().err == ""


def test_a_server_starts_once_enough_memory_is_free(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = iter([GIB, GIB, 20 * GIB])
    monkeypatch.setattr(room, "free_bytes", lambda: next(readings))
    monkeypatch.setattr(room, "SECONDS_BETWEEN_LOOKS", 0.0)

    with room.room_for(["tiny-qwen3"]):
        assert list(readings) == []

    assert "of memory for tiny-qwen3: done in" in capsys.readouterr().err


def test_only_one_process_at_a_time_starts_servers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda: 20 * GIB)

    with start_program(STARTING) as other:
        assert other.stdin is not None
        threading.Timer(0.3, other.stdin.close).start()
        with room.room_for(["tiny-qwen3"]):
            pass

    assert "waiting for 2.0 GiB of memory for tiny-qwen3 … 0 s" in capsys.readouterr().err


def test_a_started_server_is_counted_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda: 64 * GIB)

    before = room.read_memory().claims
    with serve_commands({STORING: lambda port: [sys.executable, "-c", STAND_IN, str(port)]}):
        (claim,) = room.read_memory().claims
    after = room.read_memory().claims

    assert (before, after) == ([], [])
    assert claim.need == STORING.tiny.memory
    assert MEBIBYTE < claim.used < GIB
