"""Raw HTTP requests to a server without an SDK, shared by the scripts here."""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from typing import Any

WEATHER_TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def base_url() -> str:
    """The server named on the command line, else by VLLM_BASE_URL, else the one on this machine."""
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("VLLM_BASE_URL") or "http://localhost:8000"
    return url.rstrip("/").removesuffix("/v1") + "/v1"


@cache
def model() -> str:
    """VLLM_MODEL, else the first that the server lists."""
    named = os.environ.get("VLLM_MODEL")
    return named or call("GET", "/models")[1]["data"][0]["id"]


def call(method: str, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
    """Status and body: JSON where it is JSON, text where it is not."""
    try:
        with _opened(method, path, body, key) as answer:
            return answer.status, _read(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _read(error.read())


def respond(**params: Any) -> Any:
    """The unstreamed reply of POST /v1/responses; exits if the server refuses."""
    status, body = call("POST", "/responses", {"model": model(), "temperature": 0, **params})
    if status != 200:
        sys.exit(f"{status}: {json.dumps(body, indent=2)}")
    return body


def stream(**params: Any) -> Iterator[tuple[float, dict[str, Any]]]:
    """Seconds since the request, and event, for each event of a streamed reply."""
    started = time.monotonic()
    body = {"model": model(), "temperature": 0, "stream": True, **params}
    with _opened("POST", "/responses", body, None) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                yield time.monotonic() - started, json.loads(line.removeprefix(b"data: "))


def show(item: dict[str, Any]) -> str:
    """An output item in one line."""
    match item:
        case {"type": "function_call", "name": name, "arguments": arguments}:
            return f"function_call  {name}({arguments})"
        case {"type": kind, "content": [*parts]}:
            return f"{kind:<14} {' | '.join(repr(part.get('text', part)) for part in parts)}"
        case _:
            return json.dumps(item)


def _opened(method: str, path: str, body: object, key: str | None) -> Any:
    key = key or os.environ.get("VLLM_API_KEY") or "EMPTY"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(base_url() + path, data, headers, method=method)  # noqa: S310
    return urllib.request.urlopen(request, timeout=120)  # noqa: S310


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
