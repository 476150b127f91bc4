"""Read decoded JSON from outside: each key as one type, with errors that name the key and its value."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar, cast

MAX_SHOWN = 80
"""Characters of a value that an error shows."""
HIGHEST_ID = 2**31 - 1
"""No vocabulary is larger, and every reader's integers hold it."""


T = TypeVar("T")


class Fields:
    """The keys of one JSON object. A missing key is None; the readers without `maybe_` in their name refuse it."""

    def __init__(self, value: object, place: str = "") -> None:
        if not isinstance(value, Mapping):
            # Content from outside, not a mistake of the caller.
            raise ValueError(f"{place or 'the record'}: an object is needed, not {_shown(value)}")  # noqa: TRY004
        self._values = cast("Mapping[str, Any]", value)
        self._place = place

    def maybe_text(self, key: str) -> str | None:
        value = self._values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, "a text is needed")
        return value

    def text(self, key: str) -> str:
        return self._present(key, "a text", self.maybe_text(key))

    def maybe_whole(self, key: str) -> int | None:
        value = self._values.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise self.error(key, "a whole number from 0 is needed")
        return value

    def whole(self, key: str) -> int:
        return self._present(key, "a whole number", self.maybe_whole(key))

    def maybe_number(self, key: str) -> float | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not _is_number(value):
            raise self.error(key, "a finite number is needed")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "true or false is needed")
        return default if value is None else value

    def ids(self, key: str) -> tuple[int, ...]:
        values = tuple(self._list(key, "a list of token ids"))
        ids = cast("tuple[int, ...]", values)
        if not set(map(type, values)) <= {int} or not 0 <= min(ids, default=0) <= max(ids, default=0) <= HIGHEST_ID:
            raise self.error(key, "a list of token ids is needed")
        return ids

    def maybe_logprobs(self, key: str) -> tuple[float, ...] | None:
        if self._values.get(key) is None:
            return None
        values = self.sparse_logprobs(key)
        if None in values:
            raise self.error(key, "a number for each token, or null instead of the list, is needed")
        return cast("tuple[float, ...]", values)

    def sparse_logprobs(self, key: str) -> tuple[float | None, ...]:
        """Log probabilities, with None where a token has none."""
        values = self._list(key, "a list of log probabilities")
        numbers = [value for value in values if _is_number(value)]
        if len(numbers) + values.count(None) != len(values):
            raise self.error(key, "a list of finite log probabilities is needed")
        return tuple(float(value) if _is_number(value) else None for value in values)

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self._values.get(key)
        return {} if value is None else Fields(value, self.place(key)).all()

    def inner(self, key: str) -> "Fields":
        return Fields(self.mapping(key), self.place(key))

    def objects(self, key: str) -> list["Fields"]:
        """The objects of a list, each with its place; none if the key is missing."""
        values = self._list(key, "a list") if self.has(key) else []
        return [Fields(value, f"{self.place(key)}[{index}]") for index, value in enumerate(values)]

    def all(self) -> Mapping[str, Any]:
        return self._values

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def refuse_others(self, known: Iterable[str]) -> None:
        """A key that would be left out is an error: nothing is lost silently."""
        for key in sorted({key for key, value in self._values.items() if value is not None} - set(known)):
            raise self.error(key, "this key cannot be kept, take it out")

    def place(self, key: str) -> str:
        name = key if key.isidentifier() else _shown(key)
        return f"{self._place}.{name}" if self._place else name

    def error(self, key: str, need: str) -> ValueError:
        found = f"; it is {_shown(self._values[key])}" if key in self._values else ", and missing"
        return ValueError(f"{self.place(key)}: {need}{found}")

    def _list(self, key: str, kind: str) -> Sequence[object]:
        value = self._values.get(key)
        if not isinstance(value, list | tuple):
            raise self.error(key, f"{kind} is needed")
        return cast("Sequence[object]", value)

    def _present(self, key: str, kind: str, value: T | None) -> T:
        if value is None:
            raise self.error(key, f"{kind} is needed")
        return value


def _is_number(value: object) -> TypeGuard[float]:
    # An int is compared exactly, however long it is; NaN is not within any bounds.
    limit = sys.float_info.max
    return isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
