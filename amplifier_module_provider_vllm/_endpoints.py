"""The table of endpoints, and the only module that imports one."""

from collections.abc import Mapping
from typing import Any, Final

from ._ask import Ask
from ._chat.endpoint import CHAT
from ._completions.endpoint import COMPLETIONS
from ._config import EndpointName
from ._endpoint import Body, Endpoint
from ._responses.endpoint import RESPONSES

ENDPOINTS: Final[Mapping[EndpointName, Endpoint[Any]]] = {
    endpoint.name: endpoint for endpoint in (RESPONSES, CHAT, COMPLETIONS)
}


def endpoint_of(ask: Ask) -> Endpoint[Any]:
    """The endpoint that a request is sent to."""
    return ENDPOINTS[ask.options.endpoint]


def encode(ask: Ask) -> Body:
    """The JSON body of a request, for its endpoint."""
    return endpoint_of(ask).encode(ask)


def fitted(ask: Ask) -> Ask:
    """The request without what its endpoint cannot say, each part of which is a degradation."""
    return endpoint_of(ask).fit(ask)
