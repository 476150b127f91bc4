"""What is configured, and where each value came from; secrets are only said to be there."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from amplifier_core.utils.truncate import redact_secrets
from pydantic import BaseModel, SecretStr

from .._config import ENVIRONMENT, Config
from .._constants import DEFAULT_BASE_URL, NO_API_KEY
from .findings import Setting

DEFAULT = "default"


def in_effect(
    given: Mapping[str, Any], sources: Mapping[str, str], read: Config, environment: Mapping[str, str]
) -> Iterator[Setting]:
    """Every key of the config; `sources` says where the given ones were stated."""
    for key, value in read:
        stated = given.get(key) is not None and (given[key] != "" or key == "truncation")
        yield Setting(key, _shown(key, value), sources[key] if stated else _inherited(key, environment))


def _inherited(key: str, environment: Mapping[str, str]) -> str:
    variable = ENVIRONMENT.get(key)
    return variable if variable is not None and environment.get(variable) else DEFAULT


def _shown(key: str, value: object) -> Any:
    match key, value:
        case _, SecretStr():
            return "none" if value.get_secret_value() in ("", NO_API_KEY) else "set, hidden"
        case "base_url", None:
            return DEFAULT_BASE_URL
        case "base_url", str():
            return without_user(value)
        case "extra_headers", dict():
            return dict.fromkeys(value, "hidden")
        case _, BaseModel():
            return value.model_dump(exclude_none=True)
        case _, dict():
            return redact_secrets(value)
        case _:
            return value


def without_user(text: str) -> str:
    """The text without what stands before the `@` of a URL in it."""
    return re.sub(r"[^\s/@'\"]*@", "…@", text)
