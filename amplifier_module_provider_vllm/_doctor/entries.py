"""The entries of a config file, and which of them Amplifier would take for one and the same provider."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from .files import Node
from .findings import Finding, fail, note

MODULE: Final = "provider-vllm"

Entry: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a file, and by which keys it tells the entries of a list apart."""

    name: str
    key: str
    other_key: str
    """The key by which the other reader tells them apart."""
    effect: str
    """What it does with two entries that it cannot tell apart."""


APP: Final = Reader("Amplifier's app", "id", "instance_id", "merges {} vLLM entries into one, whatever their priority")
SESSION: Final = Reader("AmplifierSession", "instance_id", "id", "mounts {} vLLM entries under one name, the last wins")


@dataclass(frozen=True, slots=True)
class EntryList:
    """The entries of one key `providers`."""

    entries: list[Entry]
    at_top: bool
    """Whether the key stands at the top of the file."""


def reader_of(path: Path, values: Node) -> Reader:
    """A mount plan is read by `AmplifierSession`, bundles and settings files by the app.

    The app reads only YAML and front matter; there, a mount plan is what has a `session` and no `bundle`.
    """
    if path.suffix in (".json", ".toml"):
        return SESSION
    match values:
        case Mapping() if "session" in values and not {"bundle", "includes", "config"} & values.keys():
            return SESSION
        case _:
            return APP


def entry_lists(node: Node, depth: int = 0) -> Iterator[EntryList]:
    """Every list or table called `providers`, at any depth."""
    match node:
        case Mapping():
            for key, value in node.items():
                if key == "providers":
                    yield EntryList([*_entries(value)], at_top=depth == 0)
                else:
                    yield from entry_lists(value, depth + 1)
        case list():
            for value in node:
                yield from entry_lists(value, depth + 1)
        case _:
            pass


def is_ours(entry: Entry) -> bool:
    return str(entry.get("module", "")).removeprefix("amplifier-module-") == MODULE


def name_of(entry: Entry) -> str:
    """What a session calls it: its `id` in a bundle or settings file, its `instance_id` in a mount plan."""
    return str(entry.get("id") or entry.get("instance_id") or "vllm")


def entry_findings(entry: Entry, among: EntryList, path: Path, reader: Reader) -> Iterator[Finding]:
    """What keeps Amplifier from loading an entry, or from telling it apart from another one of its list."""
    if entry.get("module") != MODULE:
        yield fail("config", f"Amplifier finds no module called {entry.get('module')}", f"write `module: {MODULE}`")
    if among.at_top and reader is APP and re.match(r"settings(\.\w+)?\.ya?ml$", path.name):
        message = "Amplifier's app does not read `providers` at the top of a settings file"
        yield fail("config", message, "indent it under a line `config:`")
    yield from _identity_findings(entry, [one for one in among.entries if is_ours(one)], reader)


def _identity_findings(entry: Entry, ours: list[Entry], reader: Reader) -> Iterator[Finding]:
    given, other = entry.get(reader.key) or None, entry.get(reader.other_key)
    same = [one for one in ours if (one.get(reader.key) or None) == given]
    place = next(number for number, one in enumerate(ours, 1) if one is entry)
    name = other or f"{given or 'vllm'}-{place}"
    remedy = f"give each an `{reader.key}` of its own, here: `{reader.key}: {name}`"
    if len(same) > 1:
        yield fail("config", f"{reader.name} {reader.effect.format(len(same))}: {_defect(entry, reader)}", remedy)
    elif len(ours) > 1 and reader is APP and given is None:
        message = "this entry has no `id`, another vLLM entry has one: routing may choose one and configure the other"
        yield note("config", message, remedy)


def _defect(entry: Entry, reader: Reader) -> str:
    if entry.get(reader.key):
        return f"they have the same `{reader.key}`, {entry[reader.key]}"
    if entry.get(reader.other_key):
        return f"this one has only an `{reader.other_key}`, by which {reader.name} does not tell entries apart"
    return f"this one has no `{reader.key}`"


def _entries(providers: Node) -> Iterator[Entry]:
    match providers:
        case Mapping():
            yield from _entries(list(providers.values()))
        case list():
            yield from (entry for entry in providers if isinstance(entry, Mapping))
        case _:
            pass
