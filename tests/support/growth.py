"""Check that the time of a function grows no faster than its input."""

import time
from collections.abc import Callable
from typing import Final

SMALL: Final = 8_000
LARGE: Final = 4 * SMALL
"""Characters. Linear time grows by 4 between them, quadratic time by 16."""

MOST_GROWTH: Final = 9
FREE: Final = 0.01
"""Seconds of CPU for the large input that are not worth a comparison."""

ATTEMPTS: Final = 5
"""A busy machine adds to a measurement, and never to all of them; quadratic time exceeds the limit in all."""


def assert_linear(run: Callable[[str], object], make: Callable[[int], str]) -> None:
    """`make(size)` returns an input of about this many characters."""
    small, large = make(SMALL), make(LARGE)
    measured: list[tuple[float, float]] = []
    for _ in range(ATTEMPTS):
        of_large = _cpu_seconds(run, large)
        if of_large < FREE:
            return
        of_small = _cpu_seconds(run, small)
        if of_large <= MOST_GROWTH * of_small:
            return
        measured.append((of_small, of_large))
    raise AssertionError(f"4 times the input took more than {MOST_GROWTH} times the CPU: {measured} s, {small[:200]!r}")


def repeat(before: str, unit: str, after: str = "") -> Callable[[int], str]:
    """Inputs that repeat a unit up to a size."""
    return lambda size: before + unit * (size // max(1, len(unit))) + after


def _cpu_seconds(run: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    run(text)
    return time.process_time() - start
