"""Advisory locks that the kernel drops when their owner dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.1


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """An open descriptor that holds the lock, or None when it is taken; closing the descriptor gives the lock back."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def lock(path: Path, waiting: Callable[[], None], *, shared: bool = False) -> int:
    """The lock, once it is free; `waiting` is called between the attempts."""
    while (descriptor := try_lock(path, shared=shared)) is None:
        waiting()
        time.sleep(POLL_SECONDS)
    return descriptor


@contextmanager
def hold_lock(path: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Alone for as long as the block runs."""
    descriptor = lock(path, waiting)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_owned(path: Path) -> bool:
    """Whether one process holds the lock alone."""
    return path.exists() and not _free(path, shared=True)


def is_shared(path: Path) -> bool:
    """Whether at least one process shares the lock."""
    return path.exists() and not _free(path, shared=False) and _free(path, shared=True)


def _free(path: Path, *, shared: bool) -> bool:
    descriptor = try_lock(path, shared=shared)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None
