"""What is configured, where it came from, and every vLLM provider of an Amplifier config file."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from .._config import ENVIRONMENT, Config, unknown_keys
from .findings import Finding, note, ok


@dataclass(frozen=True, slots=True)
class Instance:
    """A vLLM provider as a config file names it."""

    name: str
    config: dict[str, Any]


def read_instances(path: Path) -> list[Instance]:
    """Every vLLM provider in a YAML or TOML file, wherever in it its `providers` stand; `${VARIABLES}` filled in.

    Raises `ValueError` for a file that is neither, `OSError` for one that cannot be read.
    """
    text = path.read_text()
    whole = tomllib.loads(text) if path.suffix == ".toml" else _yaml(text)
    return [instance for provider in _providers(whole) for instance in _as_instance(provider)]


def configured(given: Mapping[str, Any], read: Config) -> Iterator[Finding]:
    """Each setting that is not a default, with its source; secrets are only said to be set."""
    stated = {key: value for key, value in given.items() if value not in (None, "")}
    for key, value in read:
        source = "config" if key in stated else _variable(key)
        if source is not None:
            yield ok(f"config {key}", f"{_shown(value)}  (from {source})")
    for sentence in unknown_keys(given):
        yield note("config", sentence)


def _variable(key: str) -> str | None:
    name = ENVIRONMENT.get(key)
    return name if name is not None and os.environ.get(name) else None


def _shown(value: object) -> str:
    match value:
        case SecretStr():
            return "set, hidden"
        case dict():
            return "{" + ", ".join(value) + "}"
        case str():
            return re.sub(r"//[^/@]*@", "//…@", value)
        case _:
            return str(value)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ValueError("reading YAML needs `pip install 'amplifier-module-provider-vllm[doctor]'`") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error


def _providers(node: Any) -> Iterator[Mapping[str, Any]]:
    match node:
        case Mapping():
            for key, value in node.items():
                if key == "providers" and isinstance(value, list):
                    yield from (entry for entry in value if isinstance(entry, Mapping))
                else:
                    yield from _providers(value)
        case list():
            for value in node:
                yield from _providers(value)


def _as_instance(provider: Mapping[str, Any]) -> Iterator[Instance]:
    module = str(provider.get("module", ""))
    if module.removeprefix("amplifier-module-") == "provider-vllm":
        name = str(provider.get("instance_id") or provider.get("id") or "vllm")
        yield Instance(name, {key: _filled(value) for key, value in (provider.get("config") or {}).items()})


def _filled(value: Any) -> Any:
    """`${NAME}` and `${NAME:default}` from the environment, as Amplifier's applications write them."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{(\w+)(?::([^}]*))?\}", lambda found: os.environ.get(found[1], found[2] or ""), value)
