"""How much memory new servers may take: what is free, what running servers will still claim, and the limit for all."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rig.home import LiveRigError

MEMORY_VARIABLE = "VLLM_TEST_MEMORY"
GIB = 2**30
DEFAULT_LIMIT_GIB = 16.0
SPARE = GIB // 2
"""Left to everything else on the machine, the tests themselves included."""


@dataclass(frozen=True)
class Claim:
    """One running server: the most that it needs, and what it uses so far. Both in bytes."""

    need: int
    used: int


@dataclass(frozen=True)
class Memory:
    """The memory of one moment. All figures in bytes."""

    free: int
    limit: int
    """What all servers together may take."""
    claims: Sequence[Claim] = ()

    @property
    def room(self) -> int:
        """What new servers may need; never below zero."""
        # A server takes half a minute to reach its need: what it has not used yet still counts as free.
        growth = sum(max(0, claim.need - claim.used) for claim in self.claims)
        taken = sum(max(claim.need, claim.used) for claim in self.claims)
        return max(0, min(self.limit - taken, self.free - growth - SPARE))


def limit_bytes() -> int:
    """The limit for all servers: VLLM_TEST_MEMORY in GiB, 16 if it is not set."""
    text = os.environ.get(MEMORY_VARIABLE, "")
    try:
        gib = DEFAULT_LIMIT_GIB if text == "" else float(text)
    except ValueError as error:
        raise LiveRigError(f"{MEMORY_VARIABLE} must be a number of GiB, such as 6, not {text!r}") from error
    return int(gib * GIB)


def free_bytes(root: Path = Path("/")) -> int:
    """What new processes can get: the least of the machine, of every cgroup around us, and of vLLM's memory node."""
    available = _fields(root / "proc/meminfo")["MemAvailable"] * 1024
    return max(0, min([available, *_cgroups(root), *_memory_node(root)]))


def used_bytes(process: int) -> int:
    """The memory of a process and all its descendants that nothing but their end gives back."""
    return sum(_unshared_bytes(pid) for pid in _descendants(process))


def _cgroups(root: Path) -> Iterator[int]:
    """What each cgroup with a limit has left, from our own to the outermost that is visible; version 2 or 1."""
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path can be the host's: of its parents, at least the mount itself is there.
        own = mount / path.lstrip("/")
        for folder in [own, *own.parents][: len(own.parts) - len(mount.parts) + 1]:
            yield from _remaining(folder, *names)


def _remaining(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    if not (folder / limit).exists() or (most := (folder / limit).read_text().strip()) == "max":
        return
    cached = _fields(folder / "memory.stat").get(reclaimable, 0)
    yield int(most) - int((folder / usage).read_text()) + cached


def _memory_node(root: Path) -> Iterator[int]:
    """Where there are several memory nodes, vLLM takes all its memory from the node of its first CPU."""
    nodes = root / "sys/devices/system/node"
    if len(list(nodes.glob("node[0-9]*"))) < 2:
        return
    first = root / f"sys/devices/system/cpu/cpu{min(os.sched_getaffinity(0))}"
    for node in first.glob("node[0-9]*"):
        # The lines are those of /proc/meminfo with the name of the node, two words, before them.
        lines = (nodes / node.name / "meminfo").read_text().splitlines()
        found = {line.split()[2].rstrip(":"): int(line.split()[3]) for line in lines}
        yield 1024 * sum(found[key] for key in ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable"))


def _fields(file: Path) -> dict[str, int]:
    """The numbers of a kernel file with a name and a number a line."""
    lines = [line.replace(":", " ").split() for line in file.read_text().splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def _descendants(process: int) -> list[int]:
    """The process, its children, theirs, and so on."""
    parents = dict(_parents())
    family = [process]
    for member in family:
        family += [pid for pid, parent in parents.items() if parent == member]
    return family


def _parents() -> Iterator[tuple[int, int]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):  # ended in the meantime
            continue


def _unshared_bytes(pid: int) -> int:
    try:
        found = _fields(Path(f"/proc/{pid}/status"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * (found.get("RssAnon", 0) + found.get("RssShmem", 0))
