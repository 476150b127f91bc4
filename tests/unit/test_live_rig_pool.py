"""The servers that the live rig keeps running between tests; without vLLM or processes."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.rig.home import LiveRigError
from tests.rig.launch import Launch
from tests.rig.memory import GIB, Claim, Memory
from tests.rig.pool import Pool, turn
from tests.rig.server import LiveServer
from tests.rig.slots import Slot

QWEN, GPT_OSS, STORING = Launch("tiny-qwen3"), Launch("tiny-gpt-oss"), Launch("tiny-qwen3", store=True)


class Machine:
    """Starts fake servers without time or memory; running ones count against `gib`."""

    def __init__(self, gib: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up: list[Launch] = []
        self.started: list[Launch] = []
        self.most = 0
        monkeypatch.setattr("tests.rig.pool.read_memory", lambda: self._memory(gib))

    def _memory(self, gib: float) -> Memory:
        claims = [Claim(launch.tiny.memory, launch.tiny.memory) for launch in self.up]
        return Memory(free=64 * GIB, limit=int(gib * GIB), claims=claims)

    @contextmanager
    def serve(self, launches: Sequence[Launch]) -> Iterator[list[LiveServer]]:
        self.up += launches
        self.started += launches
        self.most = max(self.most, len(self.up))
        yield [LiveServer(one.model, "", None, started=True, pid=0, slot=Slot(one.slot)) for one in launches]
        for launch in launches:
            self.up.remove(launch)


def test_servers_run_until_no_test_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(16, monkeypatch)

    with Pool(machine.serve) as pool:
        pool.ensure([QWEN])
        pool.ensure([QWEN, GPT_OSS])
        both = list(machine.up)
        pool.keep([GPT_OSS, STORING])
        kept = list(machine.up)
        model = pool[GPT_OSS].model

    assert (both, kept, machine.up) == ([QWEN, GPT_OSS], [GPT_OSS], [])
    assert machine.started == [QWEN, GPT_OSS]
    assert model == "tiny-gpt-oss"


def test_if_memory_is_short_idle_servers_are_stopped_for_the_current_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine((QWEN.tiny.memory + GPT_OSS.tiny.memory) / GIB, monkeypatch)

    with Pool(machine.serve) as pool:
        pool.ensure([STORING])
        pool.ensure([QWEN, STORING])
        two_small = list(machine.up)
        pool.ensure([QWEN, GPT_OSS])
        small_and_large = list(machine.up)

    assert two_small == [STORING, QWEN]
    assert small_and_large == [QWEN, GPT_OSS]


def test_servers_that_never_fit_together_fail_at_once_and_stop_none(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(16, monkeypatch)
    monkeypatch.setenv("VLLM_TEST_MEMORY", "4")

    with Pool(machine.serve) as pool:
        pool.ensure([QWEN])
        with pytest.raises(LiveRigError, match=r"No memory for tiny-qwen3 and tiny-gpt-oss: 5.0 GiB needed"):
            pool.ensure([QWEN, GPT_OSS])
        pool.ensure([GPT_OSS])

    assert machine.started == [QWEN, GPT_OSS]


def test_a_server_that_failed_to_start_is_not_retried() -> None:
    tries = []

    def failing(launches: Sequence[Launch]) -> AbstractContextManager[list[LiveServer]]:
        tries.append(launches)
        raise LiveRigError("no memory")

    with Pool(failing) as pool:
        for _ in range(2):
            with pytest.raises(LiveRigError, match="no memory"):
                pool.ensure([QWEN])

    assert tries == [[QWEN]]


def test_sorted_tests_keep_few_servers_running(monkeypatch: pytest.MonkeyPatch) -> None:
    order = [STORING, QWEN, GPT_OSS]
    needs = [{GPT_OSS}, {QWEN}, set[Launch](), {QWEN, GPT_OSS}, {STORING}, {QWEN, STORING}]
    machine = Machine(64, monkeypatch)

    in_turn = sorted(needs, key=lambda launches: turn(launches, order))
    with Pool(machine.serve) as pool:
        for index, launches in enumerate(in_turn):
            pool.ensure(launches)
            pool.keep({launch for later in in_turn[index + 1 :] for launch in later})

    assert in_turn == [set(), {STORING}, {STORING, QWEN}, {QWEN}, {QWEN, GPT_OSS}, {GPT_OSS}]
    assert machine.started == order
    assert machine.most == 2
