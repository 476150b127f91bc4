"""The pictures of docs/benchmarks.md, where matplotlib is installed."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.concurrency import Crowd
from bench.contenders import FLOOR, OURS
from bench.history import CallCost
from bench.streaming import Cost
from bench.token_sessions import Drawn, Prompt

COLOR, OTHERS, GRID, INK = "#1a73e8", "#9aa0a6", "#dadce0", "#202124"
LOST = "#d93025"
LABEL_GAP = 1.55
"""The minimum ratio between the positions of two line labels."""

GOAL, GOAL_RATE = 1.5, 200_000.0

ENDPOINTS = (("responses",), ("chat", "chat with ids", "chat with logprobs"), ("completions", "completions of gpt-oss"))
"""The panels of the first picture: what the server sends."""


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw_streaming(costs: Sequence[Cost], path: Path) -> None:
    """CPU of each contender as bars on a logarithmic axis, an endpoint above the other, the cheapest on top."""
    from matplotlib.figure import Figure

    groups = [[cost for cost in costs if cost.wire in wires] for wires in ENDPOINTS]
    figure = Figure(figsize=(8.5, 0.42 * len(costs) + 1.2), layout="constrained")
    heights = [len(group) for group in groups]
    panels = figure.subplots(len(groups), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for axes, group in zip(panels, groups, strict=True):
        _draw_bars(axes, sorted(group, key=lambda cost: -cost.cpu_us_per_token))
    panels[0].set_xscale("log")
    panels[0].set_xlim(1, 2.2 * max(cost.cpu_us_per_token for cost in costs))
    panels[-1].set_xlabel("µs of CPU per streamed token (dotted: 1.5 times the raw socket)")
    figure.savefig(path, dpi=150)


def _draw_bars(axes: Any, costs: Sequence[Cost]) -> None:
    colors = [COLOR if cost.contender.startswith(OURS.name) else OTHERS for cost in costs]
    names, figures = [cost.contender for cost in costs], [cost.cpu_us_per_token for cost in costs]
    axes.bar_label(axes.barh(names, figures, color=colors, height=0.65), fmt="%.3g", padding=4)
    floor = min(cost.cpu_us_per_token for cost in costs if cost.contender.startswith(FLOOR.name))
    axes.axvline(GOAL * floor, color=INK, linewidth=1, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)


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
    rates.axhline(GOAL_RATE, color=INK, linewidth=1, linestyle=":")
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


def draw_history(costs: Sequence[CallCost], path: Path) -> None:
    """CPU of one call over the length of its history, each line labelled at its end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8.4), layout="constrained")
    axes = figure.subplots()
    ends: list[tuple[float, str]] = []
    for name in dict.fromkeys(cost.contender for cost in costs):
        those = [cost for cost in costs if cost.contender == name]
        figures = [cost.cpu_ms for cost in those]
        style, order = _style(name), 3 if name.startswith(OURS.name) else 2
        axes.plot([cost.messages for cost in those], figures, style, color=_color(name), markersize=4, zorder=order)
        ends.append((figures[-1], name))
    lengths = sorted({cost.messages for cost in costs})
    axes.set_xscale("log")
    axes.set_yscale("log")
    _name_ends(axes, lengths[-1], sorted(ends))
    axes.yaxis.set_major_formatter(lambda ms, _position: f"{ms:,g}")
    axes.set_xticks(lengths, [f"{messages:,}" for messages in lengths])
    axes.minorticks_off()
    axes.set_xlabel("messages in the history (log scale)")
    axes.set_ylabel("ms of CPU per call (log scale; dashed: chat completions; dotted: completions)")
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def draw_drift(drawn: Sequence[Drawn], path: Path) -> None:
    """The prompts of a session as bars: what each keeps of the call before it, and from where it differs."""
    from matplotlib.figure import Figure

    models, modes = (
        list(dict.fromkeys(names)) for names in zip(*((one.model, one.mode) for one in drawn), strict=True)
    )
    figure = Figure(figsize=(10, 2.6 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), len(modes), sharex=True, squeeze=False)
    for one in drawn:
        axes = panels[models.index(one.model), modes.index(one.mode)]
        _draw_prompts(axes, one.prompts)
        axes.set_title(f"{one.model}, {one.mode}", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("tokens of the prompt")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def _draw_prompts(axes: Any, prompts: Sequence[Prompt]) -> None:
    names = [f"call {number}" for number in range(1, len(prompts) + 1)]
    lost = [min(one.before, one.length) - one.kept for one in prompts]
    parts = (
        ("as the model read and wrote it", [one.kept for one in prompts], COLOR),
        ("from the first other token on", lost, LOST),
        ("new", [one.length - one.kept - gone for one, gone in zip(prompts, lost, strict=True)], GRID),
    )
    left = [0] * len(prompts)
    for label, lengths, color in parts:
        axes.barh(names, lengths, left=left, color=color, height=0.7, label=label)
        left = [start + length for start, length in zip(left, lengths, strict=True)]
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def _name_ends(axes: Any, messages: int, ends: Sequence[tuple[float, str]]) -> None:
    """Write the name of each line to the right of its end, from bottom to top, without overlaps."""
    height = 0.0
    for cpu_ms, name in ends:
        height = max(cpu_ms, height * LABEL_GAP)
        color = COLOR if name.startswith(OURS.name) else INK
        at, line = (1.25 * messages, height), [[messages, 1.2 * messages], [cpu_ms, height]]
        axes.plot(*line, color=GRID, linewidth=0.8, clip_on=False, zorder=1)
        axes.annotate(f"{name}: {cpu_ms:,.0f} ms", at, color=color, fontsize=9, va="center", annotation_clip=False)
    axes.set_xlim(0.8, 1.05 * messages)
    axes.set_ylim(top=height)


def _color(name: str) -> str:
    if name.startswith(FLOOR.name):
        return INK
    return COLOR if name.startswith(OURS.name) else OTHERS


def _style(name: str) -> str:
    if name.endswith("(completions)"):
        return "^:"
    return "o-" if "(chat" not in name else "s--"
