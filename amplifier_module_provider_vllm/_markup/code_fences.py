"""The fences of Markdown's code blocks: markup between them is quoted."""

import re
from typing import Final

FENCE: Final = re.compile(r"\s*(?:(?:[-*+]|\d{1,9}[.)])\s+)?(`{3,}|~{3,})(.*)")
"""A line that opens or closes a code block, in a list too."""


def next_fence(fence: str, mark: re.Match[str]) -> str:
    """The fence that is open after a line that matches `FENCE`; empty if none is."""
    marks, rest = mark.groups()
    if not fence:
        return "" if "`" in marks and "`" in rest else marks  # ```code``` in a line is inline code
    return "" if marks.startswith(fence) and not rest.strip() else fence
