"""Read a server's error, in whichever shape a server or a gateway sends it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Failure:
    """A server's error."""

    message: str
    """In the server's words; empty if it gave none."""
    status: int | None = None
    """The HTTP status that the error stands for, if the body gives one."""
    kind: str = ""
    """The words of its code and type."""


def read_failure(body: object) -> Failure:
    """The error in a decoded body or event: `{"error": {…}}`, `{"message": …}`, `{"detail": …}`, or only a text."""
    outer = _mapping(body)
    error = outer.get("error")
    inner = _mapping(error)
    words = (inner.get("code"), inner.get("type"), outer.get("code"), outer.get("type"), error)
    kind = " ".join(word for word in words if isinstance(word, str))
    told = (inner.get("message"), inner.get("detail"), outer.get("message"), outer.get("detail"), error, body)
    message = next((text for text in told if isinstance(text, str) and text), None)
    stated = (outer.get("status"), inner.get("status"), inner.get("code"), outer.get("code"))
    status = next(filter(None, map(_status, stated)), None)
    if message is None:
        return Failure(kind or _dump(inner or outer or body), status, kind)
    quoted = _quoted_failure(message)
    if quoted is not None:
        return Failure(quoted.message, status or quoted.status, f"{kind} {quoted.kind}")
    return Failure(message + _parameter(message, inner.get("param") or outer.get("param")), status, kind)


def _quoted_failure(message: str) -> Failure | None:
    """The error of the server behind a gateway: `LLM request failed (404 Not Found): {"error": {…}}`."""
    start = message.find('{"error"')
    if start < 0:
        return None
    try:
        body, _ = json.JSONDecoder().raw_decode(message, start)
    except (ValueError, RecursionError):
        return None
    return read_failure(body) if _mapping(body).get("error") else None


def _parameter(message: str, name: object) -> str:
    """The name of the refused parameter, in vLLM's notation, for a message that lacks it."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.\[\]-]{1,100}", name):
        return ""
    return "" if re.search(rf"\b{re.escape(name)}\b", message) else f" (parameter={name})"


def _status(value: object) -> int | None:
    """vLLM's codes are HTTP statuses; OpenAI's are words."""
    return int(str(value)) if re.fullmatch("[45][0-9][0-9]", str(value)) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _dump(value: object) -> str:
    return json.dumps(value, default=str) if value else ""
