"""The prompt tokens of a request on a real server, and its raw requests and replies.

The tokens come from `/v1/responses/render`, which a server has only with `RENDERING` among its flags.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import openai

RENDERING = ("--enable-scale-out",)


class Wire:
    """Records every request body and every unstreamed reply; a provider uses `client`."""

    def __init__(self, base_url: str) -> None:
        self.request_bodies: list[dict[str, Any]] = []
        self.reply_bodies: list[dict[str, Any]] = []
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._keep_request], "response": [self._keep_reply]}
        http_client = openai.DefaultAsyncHttpxClient(event_hooks=hooks, trust_env=False)
        self.client = openai.AsyncOpenAI(base_url=base_url, api_key="EMPTY", max_retries=0, http_client=http_client)

    async def tokens(self, params: dict[str, Any]) -> list[int]:
        """The prompt that the model reads for this request."""
        rendered = await self.client.post("/responses/render", body=params, cast_to=dict[str, Any])
        tokens: list[int] = rendered["token_ids"]
        return tokens

    async def text(self, model: str, tokens: list[int]) -> str:
        url = urljoin(str(self.client.base_url), "/detokenize")
        response = await self.client.post(url, body={"model": model, "tokens": tokens}, cast_to=dict[str, Any])
        text: str = response["prompt"]
        return text

    async def tokenize(self, model: str, text: str) -> list[int]:
        url = urljoin(str(self.client.base_url), "/tokenize")
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        response = await self.client.post(url, body=body, cast_to=dict[str, Any])
        tokens: list[int] = response["tokens"]
        return tokens

    async def _keep_request(self, request: Any) -> None:
        if request.url.path.endswith("/responses"):
            self.request_bodies.append(json.loads(request.content))

    async def _keep_reply(self, response: Any) -> None:
        if response.url.path.endswith("/responses") and "json" in response.headers.get("content-type", ""):
            self.reply_bodies.append(json.loads(await response.aread()))
