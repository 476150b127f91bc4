"""The paths of vLLM that more than one module asks, and which of its paths a server has by its `/openapi.json`."""

import re
from collections.abc import Mapping
from typing import Final

from ._strict_json import Json

ENDPOINT_PATHS: Final[Mapping[str, str]] = {
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
}

TOKENIZE: Final = "/tokenize"
DETOKENIZE: Final = "/detokenize"

CATCH_ALL: Final = re.compile(r"(/v1)?/\{[^}]*\}")
"""A gateway's path for everything else: what it hands on is not in its list."""


def paths_of(openapi: Json) -> frozenset[str] | None:
    """The paths that a description lists; None if it is no description, or leaves open which endpoints there are."""
    match openapi:
        case {"openapi": str(), "paths": dict(paths)}:
            pass
        case _:
            return None
    # A description without any endpoint is that of an application that is mounted beside them.
    tells = any(path in paths for path in ENDPOINT_PATHS.values()) and not any(map(CATCH_ALL.fullmatch, paths))
    return frozenset(paths) if tells else None
