"""The pictures of the README, where matplotlib is installed."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from bench.concurrency import Crowd
from bench.contenders import OURS
from bench.streaming import Cost

COLOR, OTHERS, GRID = "#1a73e8", "#9aa0a6", "#dadce0"
GOAL_US, GOAL_RATE = 5.0, 200_000.0


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw_streaming(costs: Sequence[Cost], path: Path) -> None:
    """CPU of each contender as bars on a logarithmic axis, the cheapest on top."""
    from matplotlib.figure import Figure

    ordered = sorted(costs, key=lambda cost: -cost.cpu_us_per_token)
    figure = Figure(figsize=(8, 0.55 * len(ordered) + 1), layout="constrained")
    axes = figure.subplots()
    colors = [COLOR if cost.contender == OURS.name else OTHERS for cost in ordered]
    bars = axes.barh(
        [cost.contender for cost in ordered], [cost.cpu_us_per_token for cost in ordered], color=colors, height=0.65
    )
    axes.bar_label(bars, fmt="%.3g", padding=4)
    axes.axvline(GOAL_US, color="#202124", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(1, 2.2 * ordered[0].cpu_us_per_token)
    axes.set_xlabel("µs of CPU per streamed token (log scale; dotted: the goal)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def draw_concurrency(crowds: Sequence[Crowd], path: Path) -> None:
    """Tokens per second at full speed, and the delay of the slowest hundredth at human speed, by number of streams."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    rates, delays = figure.subplots(1, 2)
    for name in dict.fromkeys(crowd.contender for crowd in crowds):
        those = [crowd for crowd in crowds if crowd.contender == name]
        streams = [crowd.streams for crowd in those]
        color = COLOR if name == OURS.name else OTHERS
        rates.plot(streams, [crowd.tokens_per_second for crowd in those], "o-", color=color, label=name)
        delays.plot(streams, [crowd.late_ms_p99 for crowd in those], "o-", color=color, label=name)
    rates.axhline(GOAL_RATE, color="#202124", linewidth=1, linestyle=":")
    rates.set_title("tokens per second, all streams together", fontsize=10)
    delays.set_title("99th percentile of sent-to-shown, ms, at 50 tokens/s each", fontsize=10)
    sizes = sorted({crowd.streams for crowd in crowds})
    for axes in (rates, delays):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlabel("streams at once")
        axes.grid(color=GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    rates.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
