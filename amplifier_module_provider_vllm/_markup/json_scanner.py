"""Find the end of a JSON object in text that arrives in parts."""

import re
from typing import Final

_OUTSIDE: Final = re.compile(r'["{}\[\]]|[^\sA-Za-z0-9,:.+-]')
_INSIDE: Final = re.compile(r'["\\\x00-\x1f]')


class JsonScanner:
    """Follows brackets and strings only: what it finds complete may still be invalid JSON."""

    def __init__(self, depth: int) -> None:
        self.broken = False
        """Whether the text cannot be JSON from the place that `find_end` returned last."""
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def find_end(self, text: str, depth: int) -> int | None:
        """The place at which no more than `depth` levels are open, or of what is not JSON; None: not in this text."""
        at = 0
        while at < len(text):
            if self._escaped:
                at, self._escaped = at + 1, False
                continue
            mark = (_INSIDE if self._in_string else _OUTSIDE).search(text, at)
            if mark is None:
                return None
            at = mark.end()
            self._take(mark[0])
            if self.broken:
                return mark.start()
            if self._depth <= depth and not self._in_string:
                return at
        return None

    def _take(self, mark: str) -> None:
        match mark:
            case '"':
                self._in_string = not self._in_string
            case "\\" if self._in_string:
                self._escaped = True
            case "{" | "[":
                self._depth += 1
            case "}" | "]":
                self._depth -= 1
            case _:
                self.broken = True
