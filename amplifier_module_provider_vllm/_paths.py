"""Read which paths a server has from its own description, `/openapi.json`."""

import re
from typing import Any, Final

CATCH_ALL: Final = re.compile(r"(/v1)?/\{[^}]*\}")
"""A gateway's path for everything else: what it hands on is not in its list."""


def paths_of(openapi: object) -> frozenset[str] | None:
    """The paths that a description lists; None if it is no description, or leaves open what else there is."""
    match openapi:
        case {"openapi": str(), "paths": dict(listed)}:
            paths: dict[str, Any] = listed
            known = bool(paths) and not any(map(CATCH_ALL.fullmatch, paths))
            return frozenset(paths) if known else None
        case _:
            return None
