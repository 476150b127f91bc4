"""Read trajectories from files: ATIF, training rows and journals of running sessions, or a folder of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .._strict_json import read_json
from .atif import from_atif
from .fields import Fields
from .journal_reader import read_journal
from .rows import Row, from_rows, read_parquet, read_row
from .trajectory import Trajectory

JOURNAL: Final = ".journal"
SUFFIXES: Final = (".json", JOURNAL, ".jsonl", ".parquet")


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """The sessions of a file, or of the files below a folder. Raises `ValueError` that names file, line and key."""
    for file in _files_below(path) if path.is_dir() else [path]:
        yield from _read_file(file)


def _files_below(folder: Path) -> list[Path]:
    """Of a session with a journal the journal alone: what else there is of it was written from that, and earlier."""
    found = sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    journals = {file for file in found if file.suffix == JOURNAL}
    return [file for file in found if file.suffix != ".jsonl" or file.with_suffix(JOURNAL) not in journals]


def _read_file(path: Path) -> Iterator[Trajectory]:
    match path.suffix:
        case ".parquet":
            rows = read_parquet(path)
            with _located(str(path)):
                sessions = from_rows(rows)
            yield from sessions
        case ".journal":
            yield read_journal(path)
        case ".json":
            with _located(str(path)):
                session = from_atif(_object(path.read_bytes()).all())
            yield session
        case _:
            yield from _read_lines(path)


def _read_lines(path: Path) -> Iterator[Trajectory]:
    rows: list[Row] = []
    for place, line in _lines(path):
        with _located(place):
            record = _record(_object(line))
        if isinstance(record, Trajectory):
            yield record
        else:
            rows.append(record)
    with _located(str(path)):
        sessions = from_rows(rows)
    yield from sessions


def _record(read: Fields) -> Trajectory | Row:
    if read.has("schema_version"):
        return from_atif(read.all())
    if read.has("completion_ids"):
        return read_row(read.all())
    raise ValueError("not a trajectory: neither ATIF (`schema_version`) nor a row (`completion_ids`)")


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if record := line.strip():
                yield f"{path}, line {number}", record


def _object(text: bytes) -> Fields:
    try:
        value = read_json(text)
    except ValueError as error:
        raise ValueError(f"not valid JSON, or cut short: {error}") from error
    return Fields(value)


@contextmanager
def _located(place: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
