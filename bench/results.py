"""The results: stored as JSON, formatted as tables, and written into docs/benchmarks.md."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.concurrency import Crowd
from bench.contenders import FLOOR, LITELLM, OURS
from bench.figures import Figures
from bench.history import Blocking, CallCost
from bench.real_server import Overhead
from bench.streaming import Cost

BEGIN = "<!-- bench: `make bench` writes it -->\n"
END = "<!-- end of bench -->"

PACKAGES = ("amplifier-core", "openai", "openai-agents", "langchain-openai", "pydantic-ai-slim")


@dataclass(frozen=True)
class Results:
    """The figures of one run; None or empty for a part that was not measured."""

    machine: dict[str, str]
    streaming: tuple[Cost, ...] = ()
    concurrency: tuple[Crowd, ...] = ()
    history: tuple[CallCost, ...] = ()
    blocking: tuple[Blocking, ...] = ()
    figures: Figures | None = None
    real_server: Overhead | None = None


def read_results(path: Path) -> Results:
    """The results of earlier runs, with the current machine."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    figures, real = found.get("figures"), found.get("real_server")
    return Results(
        machine(),
        streaming=tuple(Cost(**cost) for cost in found.get("streaming", ())),
        concurrency=tuple(Crowd(**crowd) for crowd in found.get("concurrency", ())),
        history=tuple(CallCost(**cost) for cost in found.get("history", ())),
        blocking=tuple(Blocking(**blocking) for blocking in found.get("blocking", ())),
        figures=None if figures is None else Figures(**figures),
        real_server=None if real is None else Overhead(**real),
    )


def write_results(results: Results, path: Path) -> None:
    path.write_text(json.dumps(asdict(results), indent=2) + "\n")


def tables(results: Results) -> str:
    """Everything that was measured, in Markdown."""
    parts = [
        _streaming_table(results.streaming),
        _concurrency_table(results.concurrency),
        _history_table(results.history),
        _blocking_table(results.blocking),
        _figures_table(results.figures, results.real_server),
        _machine_line(results.machine),
    ]
    return "\n".join(part for part in parts if part)


def with_results(page: str, results: Results) -> str:
    """The page with the tables and the pictures between its markers."""
    streaming, concurrency = _streaming_table(results.streaming), _concurrency_table(results.concurrency)
    history = _history_table(results.history)
    parts = [
        streaming and streaming + "\n![CPU per streamed token](../bench/streaming.png)\n",
        concurrency and concurrency + "\n![Many streams in one process](../bench/concurrency.png)\n",
        history and history + "\n![CPU of one call by the length of its history](../bench/history.png)\n",
        _blocking_table(results.blocking),
        _figures_table(results.figures, results.real_server),
        _machine_line(results.machine),
    ]
    return with_text(page, "\n".join(part for part in parts if part))


def with_text(page: str, text: str) -> str:
    """The page with this text between the markers."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + text + END + rest.partition(END)[2]


def _streaming_table(costs: Sequence[Cost]) -> str:
    """The contenders by what the server sends them, each beside the raw socket with the same bytes."""
    floors = {cost.wire: cost.cpu_us_per_token for cost in costs if cost.contender.startswith(FLOOR.name)}
    order = list(floors)
    rows = [
        f"| {cost.contender} | {cost.cpu_us_per_token:.1f} | {cost.cpu_us_per_token / floors[cost.wire]:.1f}"
        f" | {cost.tokens_per_second:,.0f} |"
        for cost in sorted(costs, key=lambda cost: (order.index(cost.wire), cost.cpu_us_per_token))
    ]
    head = "| one stream at full speed | CPU µs per token | times the floor | tokens per second |"
    return _table(head, rows) if rows else ""


def _concurrency_table(crowds: Sequence[Crowd]) -> str:
    rows = [
        f"| {crowd.contender} | {crowd.streams} | {crowd.tokens_per_second:,.0f} | {crowd.late_ms_p99:.1f}"
        f" | {crowd.pieces_per_token:.2f} |"
        for crowd in crowds
    ]
    head = "| many streams in one process | streams | tokens per second | 99th percentile, sent to shown, ms¹ |"
    note = "\n¹ At 50 tokens a second in each stream, all of them at the same instants, as vLLM sends them.\n"
    return _table(head + " events per token¹ |", rows) + note if rows else ""


def _history_table(costs: Sequence[CallCost]) -> str:
    if not costs:
        return ""
    lengths = sorted({cost.messages for cost in costs})
    by_name = {cost.contender: [one.cpu_ms for one in costs if one.contender == cost.contender] for cost in costs}
    ours = by_name[OURS.name][-1]
    rows = [
        f"| {name} | {' | '.join(map(_round, figures))} | {_round(figures[-1] / ours)} |"
        for name, figures in sorted(by_name.items(), key=lambda pair: pair[1][-1])
    ]
    columns = " | ".join(f"{messages:,}" for messages in lengths)
    head = f"| CPU ms of one call by messages of history, one token back | {columns} | times ours at {lengths[-1]:,} |"
    return _table(head, rows)


def _blocking_table(blockings: Sequence[Blocking]) -> str:
    rows = [
        f"| {one.contender} | {one.messages:,} | {one.body_bytes / 1e6:.2g} | {_round(one.longest_ms)} |"
        for one in blockings
    ]
    head = "| longest time that one call blocks the event loop | messages | body, MB | ms |"
    return _table(head, rows) if rows else ""


def _figures_table(figures: Figures | None, real: Overhead | None) -> str:
    rows = [] if figures is None else _cells(figures)
    if real is not None:
        about = f"a reply of {real.tokens} tokens from real vLLM on a CPU; the same over the raw socket"
        rows.append((about, _ms(real.provider_seconds * 1000, real.raw_seconds * 1000)))
    return _table("| what else it costs | |", [f"| {about} | {figure} |" for about, figure in rows]) if rows else ""


def _cells(figures: Figures) -> list[tuple[str, str]]:
    encoding = figures.encode_1000_ms, figures.encode_2000_ms, figures.encode_4000_ms
    first = figures.first_text_ms, figures.first_text_of_sdk_ms, figures.first_text_of_raw_socket_ms
    return [
        ("encoding a history of 1,000; 2,000; 4,000 messages", _ms(*encoding)),
        ("converting a reply with 1,000 items", _ms(figures.convert_1000_items_ms)),
        ("import, beyond openai and amplifier_core", _ms(figures.import_ms)),
        ("from asking to the first text; SDK create; raw socket", _ms(*first)),
        ("memory of an open stream", f"{figures.kib_per_open_stream:.0f} KiB"),
        ("growth with a turn, over a thousand turns", f"{figures.kib_grown_per_turn:.1f} KiB"),
    ]


def _round(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 1 else f"{figure:.2g}"


def _ms(*figures: float) -> str:
    return "; ".join(f"{figure:.1f}" for figure in figures) + " ms"


def _table(head: str, rows: Sequence[str]) -> str:
    rule = "|---" + "|--:" * (head.count("|") - 2) + "|"
    return "\n".join([head, rule, *rows, ""])


def _machine_line(machine: dict[str, str]) -> str:
    return "Measured with " + ", ".join(f"{name} {value}" for name, value in machine.items()) + ".\n"


def machine() -> dict[str, str]:
    versions = {name: version for name in PACKAGES if (version := _version(name, sys.path))}
    return {"Python": platform.python_version(), **versions, **_litellm(), "cores:": str(os.cpu_count())}


def _litellm() -> dict[str, str]:
    """It is installed in a separate environment, with its own openai package."""
    folders = [str(folder) for folder in LITELLM.glob("lib/*/site-packages")]
    version = _version("litellm", folders)
    return {"litellm": f"{version} (with openai {_version('openai', folders)})"} if version else {}


def _version(package: str, folders: list[str]) -> str | None:
    found = importlib.metadata.distributions(name=package, path=folders)
    return next((distribution.version for distribution in found), None)
