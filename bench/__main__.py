"""Measure the provider and its peers: `python -m bench [PART …]`, all parts by default.

The figures go into bench/results.json, the pictures beside it, and both into docs/benchmarks.md. Fails only if
something is broken, never for being slow.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.charts import can_draw, draw_concurrency, draw_history, draw_streaming
from bench.concurrency import Sweep, measure_concurrency
from bench.figures import measure_figures
from bench.history import Lengths, measure_blocking, measure_history
from bench.isolated import BrokenRunError
from bench.real_server import measure_real_server
from bench.results import Results, machine, read_results, tables, with_results, write_results
from bench.streaming import measure_streaming

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Effort:
    """How much to measure."""

    tokens: int
    repetitions: int
    sweep: Sweep
    lengths: Lengths


FULL = Effort(
    20_000,
    5,
    Sweep((1, 4, 16, 64, 256), tokens=1_000_000, sdk_tokens=10_000, seconds=5.0),
    # 2,500 characters or more in each of 4,000 messages make a body of 11 MB.
    Lengths((1, 40, 400, 4_000), blocking=((400, 0), (4_000, 0), (4_000, 2_500)), seconds=2.0, calls=3),
)
QUICK = Effort(
    400,
    1,
    Sweep((2,), tokens=800, sdk_tokens=800, seconds=0.4),
    Lengths((1, 8), blocking=((8, 0),), seconds=0.0, calls=1),
)

Part = Callable[[Results, Effort], Results]

PARTS: dict[str, Part] = {
    "streaming": lambda results, effort: replace(
        results, streaming=tuple(measure_streaming(effort.tokens, effort.repetitions))
    ),
    "concurrency": lambda results, effort: replace(results, concurrency=tuple(measure_concurrency(effort.sweep))),
    "history": lambda results, effort: replace(
        results,
        history=tuple(measure_history(effort.lengths)),
        blocking=tuple(measure_blocking(effort.lengths)),
    ),
    "figures": lambda results, effort: replace(results, figures=measure_figures(effort.repetitions)),
    "real": lambda results, effort: replace(results, real_server=measure_real_server(2 * effort.repetitions)),
}


def main() -> int:
    asked = _arguments()
    folder: Path = asked.into
    results = read_results(folder / "results.json") if asked.parts else Results(machine())
    try:
        for name in asked.parts or PARTS:
            print(f"measuring: {name} ...", file=sys.stderr, flush=True)
            results = PARTS[name](results, QUICK if asked.quick else FULL)
            write_results(results, folder / "results.json")
    except BrokenRunError as error:
        print(f"broken: {error}", file=sys.stderr)
        return 1
    print(tables(results))
    _draw(results, folder)
    if folder == HERE:
        PAGE.write_text(with_results(PAGE.read_text(), results))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the provider and its peers.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--quick", action="store_true", help="measure little: shows that it works, not how fast")
    parser.add_argument("--into", type=Path, default=HERE, metavar="FOLDER", help="not into bench/ and docs/")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    return asked


def _draw(results: Results, folder: Path) -> None:
    if not can_draw():
        print("no pictures: matplotlib is not installed; `make bench` installs it", file=sys.stderr)
        return
    if results.streaming:
        draw_streaming(results.streaming, folder / "streaming.png")
    if results.concurrency:
        draw_concurrency(results.concurrency, folder / "concurrency.png")
    if results.history:
        draw_history(results.history, folder / "history.png")


if __name__ == "__main__":
    sys.exit(main())
