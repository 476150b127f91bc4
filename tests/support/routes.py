"""respx routes for any version of the OpenAI SDK, for tests that need only status and body."""

import importlib
from typing import Any

import httpx
import openai
import respx

from tests.support.recordings import Recording

# openai 2.x uses httpx, 3.x uses httpx2; respx supports httpx only.
wire: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])


class _RoutedTransport(wire.AsyncBaseTransport):  # type: ignore[misc]  # its base is known at run time only
    """Passes requests of the SDK to a respx router, and its responses back."""

    def __init__(self, router: respx.MockRouter) -> None:
        self._router = router

    async def handle_async_request(self, request: Any) -> Any:
        body = await request.aread()
        request = httpx.Request(request.method, str(request.url), headers=request.headers.multi_items(), content=body)
        response = await self._answer(request)
        if isinstance(response, httpx.TransportError):  # raised here, it has no trace of respx in its causes
            raise getattr(wire, type(response).__name__)(str(response))
        return wire.Response(
            response.status_code, headers=response.headers.multi_items(), content=await response.aread()
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response | httpx.TransportError:
        try:
            return await self._router.async_handler(request)
        except httpx.TransportError as failure:
            return failure


def routed_client(router: respx.MockRouter, base_url: str = "http://vllm.test/v1") -> openai.AsyncOpenAI:
    """An SDK client whose requests all go to the router, without retries."""
    transport = _RoutedTransport(router)
    http_client = openai.DefaultAsyncHttpxClient(transport=transport)
    return openai.AsyncOpenAI(base_url=base_url, api_key="EMPTY", max_retries=0, http_client=http_client)


def http_response(recording: Recording) -> httpx.Response:
    """A recorded response for a route: `router.post("/responses").mock(return_value=http_response(…))`."""
    return httpx.Response(recording.status, headers=recording.headers, content=recording.body)
