"""The endpoints at which a live test with a parameter `endpoint` runs: in `make test`, or later, in `make soak`.

Without a marker it is `/v1/responses`, and later the others; with one it is those that the marker names, and later the
rest. `/v1/completions` has its place in `make test` by what only token ids can do: `with_token_ids`.
"""

from typing import Any, Final, get_args

import pytest

from amplifier_module_provider_vllm._config import EndpointName

ENDPOINTS: Final[tuple[EndpointName, ...]] = get_args(EndpointName)

later = pytest.mark.soak
at_every_endpoint = pytest.mark.endpoints("responses", "chat", later=("completions",))
with_token_ids = pytest.mark.endpoints("chat", "completions")


def parameters(marker: pytest.Mark | None) -> list[Any]:
    """The values of `endpoint` for a test with this marker."""
    if marker is not None:
        return [*marker.args, *(pytest.param(name, marks=later) for name in marker.kwargs.get("later", ()))]
    now, *others = ENDPOINTS
    return [now, *(pytest.param(name, marks=later) for name in others)]
