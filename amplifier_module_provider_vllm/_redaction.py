"""What a debug event repeats of a request or a reply: no secret, no image."""

from collections.abc import Callable, Mapping
from typing import Any

from amplifier_core.utils.truncate import redact_secrets

from ._secrets import HIDDEN, Secrets
from ._strict_json import Json


def redacted(content: Callable[[], Any], secrets: Secrets) -> Any:
    """The content without secrets and images; a note in its place if it is not valid JSON."""
    try:
        return redact_secrets(_mapped(content(), lambda text: secrets.hide(_without_image(text))))
    except (ValueError, RecursionError) as error:
        return f"[cannot be shown: {error}]"


def _without_image(text: str) -> str:
    return f"{text[:30]}… ({len(text)} characters)" if text.startswith("data:") else text


def _mapped(value: Json, change: Callable[[str], str]) -> Json:
    """The value with every text in it changed, and with hidden headers."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {key: _mapped(inner, change) for key, inner in _hide_headers(value).items()}
        case list() | tuple():
            return [_mapped(inner, change) for inner in value]
        case _:
            return value


def _hide_headers(value: Mapping[str, Json]) -> Mapping[str, Json]:
    """Ours, those that an operator put among the body's keys by mistake, and those for an MCP server."""
    match value:
        case {"extra_headers": Mapping() as headers}:
            return {**value, "extra_headers": dict.fromkeys(headers, HIDDEN)}
        case {"type": "mcp", "headers": Mapping() as headers}:
            return {**value, "headers": dict.fromkeys(headers, HIDDEN)}
        case _:
            return value
