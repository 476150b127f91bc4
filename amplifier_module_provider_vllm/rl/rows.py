"""Flat training rows, one a segment: make them of a trajectory, write and read them as JSON lines or parquet."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypedDict, cast

from .fields import Fields
from .trajectory import Call, Step, Trajectory

COLUMNS: Final = ("session_id", "segment", "model", "reward", "num_calls", "prompt_ids", "completion_ids",
                  "completion_mask", "logprobs")  # fmt: skip


class Row(TypedDict):
    """One segment. The last three columns have one value for each token of the completion."""

    session_id: str
    segment: int
    model: str
    reward: float | None
    num_calls: int
    prompt_ids: list[int]
    completion_ids: list[int]
    completion_mask: list[int]
    """1 where the model sampled the token."""
    logprobs: list[float | None] | None
    """0.0 where the mask is 0; None where the server gave none."""


def to_rows(trajectory: Trajectory) -> list[Row]:
    calls = trajectory.calls
    return [
        Row(
            session_id=trajectory.session_id,
            segment=number,
            model=calls[segment.calls[0]].model or trajectory.model,
            reward=trajectory.reward,
            num_calls=len(segment.calls),
            prompt_ids=list(segment.prompt_ids),
            completion_ids=list(segment.completion_ids),
            completion_mask=list(segment.completion_mask),
            logprobs=None if segment.logprobs is None else list(segment.logprobs),
        )
        for number, segment in enumerate(trajectory.segments)
    ]


def read_row(data: object) -> Row:
    """One row of decoded JSON. Raises `ValueError` that names the column and its value."""
    read = Fields(data)
    read.refuse_others(COLUMNS)
    ids, mask = read.ids("completion_ids"), read.ids("completion_mask")
    if len(mask) != len(ids) or not set(mask) <= {0, 1}:
        raise read.error(
            "completion_mask", f"{len(ids)} values of 0 or 1, one for each token of the completion, are needed"
        )
    logprobs = read.sparse_logprobs("logprobs") if read.has("logprobs") else None
    if logprobs is not None and len(logprobs) != len(ids):
        raise read.error("logprobs", f"{len(ids)} log probabilities, one for each token of the completion, are needed")
    return Row(
        session_id=read.text("session_id"),
        segment=read.whole("segment"),
        model=read.maybe_text("model") or "",
        reward=read.maybe_number("reward"),
        num_calls=read.whole("num_calls"),
        prompt_ids=list(read.ids("prompt_ids")),
        completion_ids=list(ids),
        completion_mask=list(mask),
        logprobs=None if logprobs is None else list(logprobs),
    )


def from_rows(rows: Iterable[Row]) -> list[Trajectory]:
    """The sessions of rows in any order, as far as rows tell: a call a run of sampled tokens, and no messages."""
    sessions: dict[str, list[Row]] = {}
    for row in rows:
        sessions.setdefault(row["session_id"], []).append(row)
    return [_session(session_id, of_one) for session_id, of_one in sessions.items()]


def write_jsonl(path: Path, objects: Iterable[Mapping[str, Any] | Row]) -> None:
    """Write one JSON object a line: rows, or the objects of `to_atif`."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(each, allow_nan=False) + "\n" for each in objects)


def write_parquet(path: Path, rows: Iterable[Row]) -> None:
    """Needs pyarrow (the extra `parquet`)."""
    arrow, parquet = _pyarrow()
    ids = arrow.list_(arrow.int64())
    types = (arrow.string(), arrow.int64(), arrow.string(), arrow.float64(), arrow.int64(), ids, ids, ids,
             arrow.list_(arrow.float64()))  # fmt: skip
    # The types are spelled: a column without one value has none to guess from.
    schema = arrow.schema(list(zip(COLUMNS, types, strict=True)))
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema=schema), path)


def read_parquet(path: Path) -> list[Row]:
    """Needs pyarrow (the extra `parquet`). Raises `ValueError` that names file, row and column."""
    arrow, parquet = _pyarrow()
    try:
        table = parquet.read_table(path).to_pylist()
    except arrow.ArrowException as error:
        raise ValueError(f"{path}: not a parquet file that can be read: {error}") from error
    rows: list[Row] = []
    for number, data in enumerate(table, 1):
        try:
            rows.append(read_row(data))
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return rows


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        needed = "parquet needs pyarrow: pip install 'amplifier-module-provider-vllm[parquet]', or write JSON lines"
        raise ModuleNotFoundError(needed, name="pyarrow") from error
    return pyarrow, pyarrow.parquet


def _session(session_id: str, rows: Sequence[Row]) -> Trajectory:
    rewards = {row["reward"] for row in rows}
    if len(rewards) > 1:
        raise ValueError(f"reward: session {session_id!r} has {len(rewards)} different rewards; give all its rows one")
    ordered = sorted(rows, key=lambda row: row["segment"])
    steps = tuple(Step("agent", "", call=call) for row in ordered for call in _calls(row))
    return Trajectory(session_id, steps, model=ordered[0]["model"], reward=rewards.pop())


def _calls(row: Row) -> Iterator[Call]:
    before = tuple(row["prompt_ids"])
    for start, end in _runs(row):
        sampled = tuple(row["completion_ids"][start:end])
        logprobs = None if row["logprobs"] is None else tuple(row["logprobs"][start:end])
        yield Call(
            prompt_token_ids=before + tuple(row["completion_ids"][:start]),
            token_ids=sampled,
            logprobs=None if logprobs is None or None in logprobs else cast("tuple[float, ...]", logprobs),
            model=row["model"],
        )


def _runs(row: Row) -> Iterator[tuple[int, int]]:
    """Where tokens were sampled together. Calls that sampled none stand at the ends of a completion."""
    mask = row["completion_mask"]
    given = [None] * len(mask) if row["logprobs"] is None else row["logprobs"]
    kinds = [(sampled, logprob is None and sampled) for sampled, logprob in zip(mask, given, strict=True)]
    bounds = [0, *(place for place, (one, next_one) in enumerate(pairwise(kinds), 1) if one != next_one), len(mask)]
    if not mask or not mask[0]:
        yield 0, 0
    yield from ((start, end) for start, end in pairwise(bounds) if start < end and mask[start])
    if mask and not mask[-1]:
        yield len(mask), len(mask)
