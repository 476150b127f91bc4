"""The part of the benchmark about token ids: `python -m bench.drift`.

It plays the sessions of the live tests on real vLLM with both tiny models, by messages and by token ids. The figures go
into bench/drift.json, the picture beside it, and both into docs/rl.md.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Final

from bench.charts import can_draw, draw_drift
from bench.results import with_text
from bench.token_sessions import Count, Drift, measure_sessions
from bench.warm_turn import Turn
from tests.rig.launch import Launch
from tests.rig.server import serve_launches
from tests.support.vocabulary import vocabulary_folder

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parent / "docs" / "rl.md"

SERVERS: Final = (Launch("tiny-qwen3"), Launch("tiny-gpt-oss"))


def main() -> None:
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(vocabulary_folder())
    found: list[Drift] = []
    for launch in SERVERS:
        with serve_launches([launch]) as (server,):
            found.append(asyncio.run(measure_sessions(server.base_url, launch.model)))
    drift = Drift(
        counts=tuple(chain.from_iterable(one.counts for one in found)),
        drawn=tuple(chain.from_iterable(one.drawn for one in found)),
        turns=tuple(chain.from_iterable(one.turns for one in found)),
    )
    (HERE / "drift.json").write_text(json.dumps(asdict(drift), indent=1) + "\n")
    if can_draw():
        draw_drift(drift.drawn, HERE / "drift.png")
    tables = f"{count_table(drift.counts)}\n{turn_table(drift.turns)}"
    print(tables)
    PAGE.write_text(with_text(PAGE.read_text(), tables))


def count_table(counts: Sequence[Count]) -> str:
    """Exact follow-ups by case, and the rows for training; a column for each model and mode."""
    columns = list(dict.fromkeys((count.model, count.mode) for count in counts))
    lines = _head("exact follow-ups / follow-ups", [f"{model}, {mode}" for model, mode in columns])
    for case in dict.fromkeys(count.case for count in counts):
        those = {(count.model, count.mode): count for count in counts if count.case == case}
        cells = [f"{those[column].exact} / {those[column].followed}" for column in columns]
        lines.append(f"| {those[columns[0]].sessions} sessions, {case} | {' | '.join(cells)} |")
    rows = [sum(one.rows for one in counts if (one.model, one.mode) == column) for column in columns]
    sessions = sum(count.sessions for count in counts if (count.model, count.mode) == columns[0])
    lines.append(f"| rows for training, of {sessions} sessions | {' | '.join(map(str, rows))} |")
    return "\n".join([*lines, ""])


def turn_table(turns: Sequence[Turn]) -> str:
    """What was found in the prefix cache."""
    lines = _head("ten steps, a reminder in each", ["prompt tokens", "possible", "cached", "of what is possible"])
    for turn in turns:
        figures = f"{turn.prompt:,} | {turn.possible:,} | {turn.cached:,} | {turn.cached / turn.possible:.0%}"
        lines.append(f"| {turn.model}, {turn.mode} | {figures} |")
    return "\n".join([*lines, ""])


def _head(first: str, columns: Sequence[str]) -> list[str]:
    return [f"| {first} | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]


if __name__ == "__main__":
    main()
