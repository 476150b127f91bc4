"""datasets loads our rows from JSON Lines and from parquet, both equal to what was written and to what was sampled."""

from collections.abc import Iterator
from importlib.metadata import version

import datasets

from tests.rl.readers.written import Line, Written, require


def read(written: Written) -> Iterator[str]:
    rows = written.lines("rows.jsonl")
    for kind, name in (("json", "rows.jsonl"), ("parquet", "rows.parquet")):
        loaded = datasets.load_dataset(kind, data_files=str(written.folder / name), split="train")
        require(rows, list(loaded), f"the rows of {name}")
    require(written.sampled(), _unmasked(rows), "the ids whose mask is 1")
    yield f"{version('datasets')}: {len(rows)} rows equal from JSON Lines and parquet; mask 1 is what was sampled"


def _unmasked(rows: list[Line]) -> dict[str, list[int]]:
    sampled: dict[str, list[int]] = {}
    for row in rows:
        chosen = [one for one, mask in zip(row["completion_ids"], row["completion_mask"], strict=True) if mask]
        sampled.setdefault(row["session_id"], []).extend(chosen)
    return sampled
