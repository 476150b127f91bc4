"""What is configured and where: each vLLM provider of a bundle, settings file or plan, each value with its source."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from amplifier_core.utils.truncate import redact_secrets
from pydantic import BaseModel, SecretStr

from .._config import Config
from .._config_reading import ENVIRONMENT, VARIABLE, environment_settings
from .._constants import NO_API_KEY
from .._secrets import MIN_LENGTH, Secrets, tool_secrets, url_secrets
from .entries import APP, Entry, EntryList, Reader, entry_findings, entry_lists, is_ours, name_of, reader_of
from .files import Node, read_keys, read_values
from .findings import Finding, Setting, note

DEFAULT = "default"
COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class Instance:
    """A vLLM provider as it is configured, and what is wrong with that config."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where each key of the config was stated."""
    findings: Sequence[Finding] = ()
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    """The variables of the app's `keys.env`, which the environment overrides."""

    @property
    def environment(self) -> Mapping[str, str]:
        return {**self.keys, **os.environ}

    def with_settings(self, settings: Mapping[str, Any], source: str) -> "Instance":
        sources = {**self.sources, **dict.fromkeys(settings, source)}
        return replace(self, config={**self.config, **settings}, sources=sources)

    @property
    def secrets(self) -> Secrets:
        """What stands in `keys.env`, except URLs, numbers and short words, which are settings."""
        stored = [value for value in self.keys.values() if len(value) >= MIN_LENGTH and not value.isdigit()]
        return Secrets(value for value in stored if not re.match("https?://", value))


def read_instances(path: Path) -> list[Instance]:
    """Every vLLM provider in a YAML, TOML or JSON file or in a bundle's front matter, wherever its `providers` stand.

    Raises `ValueError` for a file that is none of these, `OSError` for one that cannot be read.
    """
    values = read_values(path)
    reader = reader_of(path, values)
    # The app reads this one file, for every settings file and bundle.
    keys = read_keys(Path.home() / ".amplifier" / "keys.env") if reader is APP else {}
    lists = [*entry_lists(values)]
    return [_instance(entry, one, path, reader, keys) for one in lists for entry in one.entries if is_ours(entry)]


def effective_settings(instance: Instance, read: Config) -> Iterator[Setting]:
    """Every key of the config with its source, secrets hidden."""
    given, secrets = instance.config, instance.secrets | Secrets(tool_secrets(read.stated_tools))
    from_environment = environment_settings(given, instance.environment)
    for key, value in read:
        stated = given.get(key) is not None and (given[key] != "" or key == "truncation")
        default = _variable(key) if key in from_environment else DEFAULT
        yield Setting(key, _hidden(_display(key, value), secrets), instance.sources[key] if stated else default)


def hide_user(text: str) -> str:
    """The text without the user and password of any URL in it."""
    return re.sub(r"(?<![^\s/@'\"])[^\s/@'\"]*@", "…@", text)


def _instance(entry: Entry, among: EntryList, path: Path, reader: Reader, keys: Mapping[str, str]) -> Instance:
    instance = Instance(name_of(entry), keys=keys)
    unset = sorted(set(_unset_variables(entry.get("config"), instance.environment)))
    messages = [f"the variable {variable} is not set and is read as empty" for variable in unset]
    notes = [note("config", text, f"export {name}=…") for name, text in zip(unset, messages, strict=True)]
    findings = [*entry_findings(entry, among, path, reader), *notes]
    return replace(instance, findings=findings).with_settings(_config(entry, instance.environment), path.name)


def _config(entry: Entry, environment: Mapping[str, str]) -> dict[str, Any]:
    config: Node = entry.get("config")
    match config:
        case None:
            return {}
        case Mapping():
            return {str(key): _expand(value, environment) for key, value in config.items()}
        case _:
            raise ValueError(f"the `config` of {name_of(entry)} is not a table of keys and values")


def _unset_variables(value: Node, environment: Mapping[str, str]) -> Iterator[str]:
    match value:
        case str():
            found = VARIABLE.finditer(value)
            yield from (one[1] for one in found if one[2] is None and one[1] not in environment)
        case Mapping():
            for inner in value.values():
                yield from _unset_variables(inner, environment)
        case list():
            for inner in value:
                yield from _unset_variables(inner, environment)
        case _:
            pass


def _expand(value: Node, environment: Mapping[str, str]) -> Node:
    """`${NAME}` and `${NAME:default}` from the environment, as Amplifier's applications fill them in."""
    match value:
        case str():
            return VARIABLE.sub(lambda found: environment.get(found[1], found[2] or ""), value)
        case Mapping():
            return {str(key): _expand(inner, environment) for key, inner in value.items()}
        case list():
            return [_expand(inner, environment) for inner in value]
        case _:
            return value


def _hidden(value: Node, secrets: Secrets) -> Node:
    match value:
        case str():
            return secrets.hide(value)
        case dict():
            return {key: _hidden(inner, secrets) for key, inner in value.items()}
        case list():
            return [_hidden(inner, secrets) for inner in value]
        case _:
            return value


def _variable(key: str) -> str:
    """The variable that set a key, and where it was found."""
    return ENVIRONMENT[key] if ENVIRONMENT[key] in os.environ else f"{ENVIRONMENT[key]} in keys.env"


def _display(key: str, value: Node | SecretStr | BaseModel) -> Any:
    match key, value:
        case _, SecretStr():
            return "none" if value.get_secret_value() in ("", NO_API_KEY) else "set, hidden"
        case "base_url", str():
            return Secrets(url_secrets(value)).hide(hide_user(value))
        case "extra_headers", dict():
            return dict.fromkeys(value, "hidden")
        case "hosted_tools", list():
            return [_display(key, tool) for tool in value]
        case "hosted_tools", dict():
            return redact_secrets(value | dict.fromkeys(value.keys() & {"headers"}, "hidden"))
        case _, BaseModel():
            return value.model_dump(exclude_none=True)
        case _, dict():
            return redact_secrets(value)
        case _:
            return value
