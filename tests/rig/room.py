"""Start servers only if there is memory for them; else wait for it, up to a limit."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.rig.home import LiveRigError, home
from tests.rig.locks import hold_lock
from tests.rig.memory import GIB, MEMORY_VARIABLE, Claim, Memory, free_bytes, limit_bytes, used_bytes
from tests.rig.models import tiny_model
from tests.rig.progress import Progress
from tests.rig.slots import all_slots

SECONDS_TO_WAIT = 300.0
SECONDS_BETWEEN_LOOKS = 1.0

NO_ROOM = """\
No memory for {models} after {seconds:.0f} s: {need:.1f} GiB needed, {room:.1f} GiB to be had.
The machine has {free:.1f} GiB free; all servers of {home} may take {limit:g} GiB. Running: {running}.
- stop servers that nothing needs: `python -m tests.rig status` shows them, `down` stops detached ones;
- close other programs, or give the machine or container more memory;
- if {limit:g} GiB is too little, set {variable} to more."""


def read_memory() -> Memory:
    """The memory as it is, with the servers of this home that run."""
    running = {slot: server for slot in all_slots() if (server := slot.running()) is not None}
    claims = [Claim(tiny_model(server.model).memory, used_bytes(server.keeper)) for server in running.values()]
    return Memory(free_bytes(), limit_bytes(), claims)


def needed_bytes(models: Sequence[str]) -> int:
    """The total memory that servers of these models need, in bytes."""
    return sum(tiny_model(model).memory for model in models)


def check_limit(models: Sequence[str]) -> None:
    """Raise where no waiting helps: servers of these models need more than the limit for all servers."""
    need, limit = needed_bytes(models) / GIB, limit_bytes() / GIB
    if need > limit:
        raise LiveRigError(
            f"No memory for {' and '.join(models)}: {need:.1f} GiB needed, and all servers of {home()} may take "
            f"{limit:g} GiB; set {MEMORY_VARIABLE} to more."
        )


@contextmanager
def room_for(models: Sequence[str]) -> Iterator[None]:
    """Begin once these servers fit into memory; until the block ends no other process of this home starts any."""
    check_limit(models)
    need, names = needed_bytes(models), " and ".join(models)
    with ExitStack() as alone:
        with Progress(f"waiting for {need / GIB:.1f} GiB of memory for {names}") as progress:
            while (memory := _look(alone, progress)).room < need:
                if progress.seconds > SECONDS_TO_WAIT:
                    raise _no_room(names, need, memory, progress.seconds)
                # Between two looks others may start servers that need less than ours, end, and so make room.
                alone.close()
                progress.tick()
                time.sleep(SECONDS_BETWEEN_LOOKS)
        yield


def _look(alone: ExitStack, progress: Progress) -> Memory:
    alone.enter_context(hold_lock(home() / "memory.lock", progress.tick))
    return read_memory()


def _no_room(names: str, need: int, memory: Memory, seconds: float) -> LiveRigError:
    running = [slot.name for slot in all_slots() if slot.is_alive()]
    return LiveRigError(
        NO_ROOM.format(
            models=names,
            seconds=seconds,
            need=need / GIB,
            room=memory.room / GIB,
            free=memory.free / GIB,
            limit=memory.limit / GIB,
            home=home(),
            running=", ".join(running) or "none",
            variable=MEMORY_VARIABLE,
        )
    )
