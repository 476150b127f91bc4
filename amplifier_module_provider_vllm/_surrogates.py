"""Characters that a gateway has cut in two: one that cuts strings in UTF-16 sends the halves as lone surrogates."""

import json
from collections.abc import Hashable
from typing import Any

import msgspec

from ._strict_json import Json, wire_text, wire_value


def fields_with_surrogates(data: bytes, error: msgspec.DecodeError) -> dict[str, Json]:
    """The fields of data that msgspec refuses for a lone surrogate; raises `error` if that is not the reason."""
    try:
        fields: Json = json.loads(data)
        if isinstance(fields, dict) and wire_value(fields) != fields:
            return fields
    except (ValueError, RecursionError):
        raise error from None
    raise error


def read_fields(data: bytes) -> dict[str, Json]:
    """The fields of data, with a replacement character for each lone surrogate. Raises `msgspec.DecodeError`."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        return wire_value(fields_with_surrogates(data, error))


class Halves:
    """The first half of a character, by the part whose next delta brings the second."""

    def __init__(self) -> None:
        self._halves: dict[Hashable, str] = {}

    def join(self, part: Hashable, delta: str) -> str:
        """The delta with the half character of the one before it, without a half that the next one completes."""
        text = self._halves.pop(part, "") + delta
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[part], text = text[-1], text[:-1]
        return wire_text(text)
