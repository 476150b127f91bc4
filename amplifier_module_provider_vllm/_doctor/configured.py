"""What is configured and where: each vLLM provider of a bundle, settings file or plan, each value with its source."""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from amplifier_core.utils.truncate import redact_secrets
from pydantic import BaseModel, SecretStr

from .._config import ENVIRONMENT, VARIABLE, Config, environment_settings
from .._constants import NO_API_KEY
from .findings import Finding, Setting, fail, note

MODULE = "provider-vllm"
DEFAULT = "default"

Node: TypeAlias = Mapping[Any, "Node"] | list["Node"] | str | float | None
"""What a config file holds; the keys of YAML need not be strings."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A vLLM provider as it is configured, and what is wrong with that config."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where each key of the config was stated."""
    findings: Sequence[Finding] = ()

    def with_settings(self, settings: Mapping[str, Any], source: str) -> "Instance":
        sources = {**self.sources, **dict.fromkeys(settings, source)}
        return replace(self, config={**self.config, **settings}, sources=sources)


def read_instances(path: Path) -> list[Instance]:
    """Every vLLM provider in a YAML, TOML or JSON file or in a bundle's front matter, wherever its `providers` stand.

    Raises `ValueError` for a file that is none of these, `OSError` for one that cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    found = [entry for entry in _providers(_parse(path, text)) if _is_ours(entry)]
    names = [_name(entry) for entry in found]
    return [_instance(entry, path.name, names) for entry in found]


def effective_settings(
    given: Mapping[str, Any], sources: Mapping[str, str], read: Config, environment: Mapping[str, str]
) -> Iterator[Setting]:
    """Every key of the config; `sources` says where the given ones were stated."""
    from_environment = environment_settings(given, environment)
    for key, value in read:
        stated = given.get(key) is not None and (given[key] != "" or key == "truncation")
        default = ENVIRONMENT[key] if key in from_environment else DEFAULT
        yield Setting(key, _display(key, value), sources[key] if stated else default)


def hide_user(text: str) -> str:
    """The text without the user and password of any URL in it."""
    return re.sub(r"[^\s/@'\"]*@", "…@", text)


def _instance(entry: Mapping[str, Any], file: str, names: Sequence[str]) -> Instance:
    return Instance(_name(entry), findings=[*_file_findings(entry, names)]).with_settings(_config(entry), file)


def _parse(path: Path, text: str) -> Any:
    match path.suffix:
        case ".toml":
            return tomllib.loads(text)
        case ".json":
            return json.loads(text)
        case _:
            return _yaml(text)


def _yaml(text: str) -> Any:
    """The file as YAML, or the front matter of a bundle."""
    try:
        import yaml  # an extra
    except ModuleNotFoundError as error:
        raise ValueError("reading YAML needs PyYAML: `pip install pyyaml`") from error
    front_matter = re.match(r"---\r?\n(.*?)\r?\n---\s*$", text, re.DOTALL | re.MULTILINE)
    try:
        return yaml.safe_load(front_matter[1] if front_matter else text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(f"it is not YAML: {error}".split())) from error


def _providers(node: Node) -> Iterator[Mapping[str, Any]]:
    """The entries of every list or table called `providers`, at any depth."""
    match node:
        case Mapping():
            for key, value in node.items():
                yield from _entries(value) if key == "providers" else _providers(value)
        case list():
            for value in node:
                yield from _providers(value)
        case _:
            pass


def _entries(providers: Node) -> Iterator[Mapping[str, Any]]:
    match providers:
        case Mapping():
            yield from _entries(list(providers.values()))
        case list():
            yield from (entry for entry in providers if isinstance(entry, Mapping))
        case _:
            pass


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("module", "")).removeprefix("amplifier-module-") == MODULE


def _name(entry: Mapping[str, Any]) -> str:
    """What a session calls it: its `id` in a bundle or settings file, its `instance_id` in a mount plan."""
    return str(entry.get("id") or entry.get("instance_id") or "vllm")


def _config(entry: Mapping[str, Any]) -> dict[str, Any]:
    config: Node = entry.get("config")
    match config:
        case None:
            return {}
        case Mapping():
            return {str(key): _expand(value) for key, value in config.items()}
        case _:
            raise ValueError(f"the `config` of {_name(entry)} is not a table of keys and values")


def _file_findings(entry: Mapping[str, Any], names: Sequence[str]) -> Iterator[Finding]:
    """What Amplifier would not load, and variables that are not set."""
    if entry.get("module") != MODULE:
        yield fail("config", f"Amplifier finds no module called {entry.get('module')}", f"write `module: {MODULE}`")
    if names.count(_name(entry)) > 1:
        message = f"{names.count(_name(entry))} vLLM providers are called {_name(entry)!r}"
        yield fail("config", message, "give each an `id` of its own (in a mount plan an `instance_id`)")
    for variable in sorted(set(_unset_variables(entry.get("config")))):
        yield note("config", f"the variable {variable} is not set and is read as empty", f"export {variable}=…")


def _unset_variables(value: Node) -> Iterator[str]:
    match value:
        case str():
            found = VARIABLE.finditer(value)
            yield from (one[1] for one in found if one[2] is None and one[1] not in os.environ)
        case Mapping():
            for inner in value.values():
                yield from _unset_variables(inner)
        case list():
            for inner in value:
                yield from _unset_variables(inner)
        case _:
            pass


def _expand(value: Node) -> Node:
    """`${NAME}` and `${NAME:default}` from the environment, as Amplifier's applications fill them in."""
    match value:
        case str():
            return VARIABLE.sub(lambda found: os.environ.get(found[1], found[2] or ""), value)
        case Mapping():
            return {str(key): _expand(inner) for key, inner in value.items()}
        case list():
            return [_expand(inner) for inner in value]
        case _:
            return value


def _display(key: str, value: Node | BaseModel | SecretStr) -> Any:
    match key, value:
        case _, SecretStr():
            return "none" if value.get_secret_value() in ("", NO_API_KEY) else "set, hidden"
        case "base_url", str():
            return hide_user(value)
        case "extra_headers", dict():
            return dict.fromkeys(value, "hidden")
        case _, BaseModel():
            return value.model_dump(exclude_none=True)
        case _, dict():
            return redact_secrets(value)
        case _:
            return value
