"""All contenders: the floor, this provider, the SDK and the peers."""

import json
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import openai
from amplifier_core import HookResult
from amplifier_core.message_models import ChatRequest
from amplifier_core.testing import create_test_coordinator

from amplifier_module_provider_vllm import mount
from bench.contender import ANSWER, KEY, MODEL, Ask, Contender, Heard
from bench.conversation import QUESTION, Step, amplifier_messages, response_items
from bench.peers import langchain, litellm_chat, openai_agents, openai_agents_chat, pydantic_ai, pydantic_ai_chat


@asynccontextmanager
async def raw_socket(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    """The floor: send the request as JSON, read lines from a blocking socket, and parse each one."""
    address = urlsplit(base_url)
    head = f"POST /v1/responses HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
    request = {"model": MODEL, "input": response_items(steps), "stream": True, "temperature": 0}
    with (
        socket.create_connection((address.hostname, address.port)) as connection,
        connection.makefile("rb", buffering=65536) as lines,
    ):

        async def ask() -> None:
            body = json.dumps(request).encode()
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            _read_answer(lines, on_text)

        yield ask


def _read_answer(lines: Iterable[bytes], on_text: Heard) -> None:
    is_end = False
    for line in lines:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if event["type"] == ANSWER:
                on_text(event["delta"])
        elif line == b"0\r\n":
            is_end = True
        elif is_end:
            return


@asynccontextmanager
async def sdk_create(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    items: Any = response_items(steps)
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:

        async def ask() -> None:
            async for event in await client.responses.create(model=MODEL, input=items, stream=True):
                if event.type == ANSWER:
                    on_text(event.delta)

        yield ask


@asynccontextmanager
async def sdk_stream(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    items: Any = response_items(steps)
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:

        async def ask() -> None:
            async with client.responses.stream(model=MODEL, input=items) as stream:
                async for event in stream:
                    if event.type == ANSWER:
                        on_text(event.delta)

        yield ask


@asynccontextmanager
async def this_provider(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    """A whole `complete()`, through the kernel's own hooks to a listener."""
    coordinator = create_test_coordinator()

    async def listen(_event: str, data: dict[str, Any]) -> HookResult:
        if data["block_type"] == "text":
            on_text(data["text"])
        return HookResult(action="continue")

    coordinator.hooks.register("llm:stream_block_delta", listen, priority=0, name="listen")
    cleanup = await mount(coordinator, {"base_url": base_url, "default_model": MODEL, "temperature": 0})
    provider = coordinator.get("providers")["vllm"]
    request = ChatRequest(messages=amplifier_messages(steps))

    async def ask() -> None:
        await provider.complete(request)

    yield ask
    await cleanup()


LITELLM: Final = Path(__file__).parents[1] / ".venv-bench-litellm"

FLOOR: Final = Contender("raw socket + json", raw_socket)
OURS: Final = Contender("this provider, with a hook", this_provider)
SDK: Final = Contender("openai SDK, create(stream=True)", sdk_create)
_WITH_HISTORY: Final = (
    FLOOR,
    OURS,
    SDK,
    Contender("openai-agents", openai_agents, "agents"),
    Contender("langchain-openai", langchain, "langchain_openai"),
    Contender("pydantic-ai", pydantic_ai, "pydantic_ai"),
)

STREAMING: Final = (*_WITH_HISTORY, Contender("openai SDK, responses.stream()", sdk_stream))
HISTORY: Final = (
    *_WITH_HISTORY,
    Contender("openai-agents (chat)", openai_agents_chat, "agents"),
    Contender("pydantic-ai (chat)", pydantic_ai_chat, "pydantic_ai"),
    Contender("litellm (chat)", litellm_chat, "litellm", LITELLM),
)


def find_contender(name: str) -> Contender:
    return next(one for one in (*STREAMING, *HISTORY) if one.name == name)
