"""Every way to stream a reply of /v1/responses that is compared here, each behind the same small interface."""

import importlib.util
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import openai
from amplifier_core import HookResult
from amplifier_core.message_models import ChatRequest, Message
from amplifier_core.testing import create_test_coordinator

from amplifier_module_provider_vllm import mount

MODEL: Final = "tiny-qwen3"
QUESTION: Final = "Count from 1 to 100."
KEY: Final = "EMPTY"
ANSWER: Final = "response.output_text.delta"

Heard = Callable[[str], None]
"""Called with each piece of the answer as soon as a program that uses the contender can have it."""

Ask = Callable[[], Awaitable[None]]
"""Streams one reply from its beginning to its end."""

Open = Callable[[str, Heard], AbstractAsyncContextManager[Ask]]


@dataclass(frozen=True)
class Contender:
    name: str
    open: Open
    package: str | None = None
    """What must be installed for it, besides what this package needs itself."""

    @property
    def installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package) is not None


@asynccontextmanager
async def raw_socket(base_url: str, heard: Heard) -> AsyncIterator[Ask]:
    """The floor: lines off a blocking socket, and the data of each one parsed."""
    address = urlsplit(base_url)
    body = json.dumps({"model": MODEL, "input": QUESTION, "stream": True, "temperature": 0})
    head = f"POST /v1/responses HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()

    async def ask() -> None:
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(request)
            with connection.makefile("rb", buffering=65536) as lines:
                _read_answer(lines, heard)

    yield ask


def _read_answer(lines: Iterable[bytes], heard: Heard) -> None:
    for line in lines:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if event["type"] == ANSWER:
                heard(event["delta"])
        elif line == b"0\r\n":
            return


@asynccontextmanager
async def sdk_create(base_url: str, heard: Heard) -> AsyncIterator[Ask]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:

        async def ask() -> None:
            async for event in await client.responses.create(model=MODEL, input=QUESTION, stream=True):
                if event.type == ANSWER:
                    heard(event.delta)

        yield ask


@asynccontextmanager
async def sdk_stream(base_url: str, heard: Heard) -> AsyncIterator[Ask]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:

        async def ask() -> None:
            async with client.responses.stream(model=MODEL, input=QUESTION) as stream:
                async for event in stream:
                    if event.type == ANSWER:
                        heard(event.delta)

        yield ask


@asynccontextmanager
async def this_provider(base_url: str, heard: Heard) -> AsyncIterator[Ask]:
    """A whole `complete()`, through the kernel's own hooks to a listener."""
    coordinator = create_test_coordinator()

    async def listen(_event: str, data: dict[str, Any]) -> HookResult:
        if data["block_type"] == "text":
            heard(data["text"])
        return HookResult(action="continue")

    coordinator.hooks.register("llm:stream_block_delta", listen, priority=0, name="listen")
    cleanup = await mount(coordinator, {"base_url": base_url, "default_model": MODEL, "temperature": 0})
    provider = coordinator.get("providers")["vllm"]
    request = ChatRequest(messages=[Message(role="user", content=QUESTION)])

    async def ask() -> None:
        await provider.complete(request)

    yield ask
    await cleanup()


@asynccontextmanager
async def langchain(base_url: str, heard: Heard) -> AsyncIterator[Ask]:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=base_url, api_key=KEY, use_responses_api=True)

    async def ask() -> None:
        async for chunk in model.astream(QUESTION):
            heard(chunk.text)

    yield ask


@asynccontextmanager
async def pydantic_ai(base_url: str, heard: Heard) -> AsyncIterator[Ask]:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=base_url, api_key=KEY)
    agent = Agent(OpenAIResponsesModel(MODEL, provider=provider))

    async def ask() -> None:
        async with agent.run_stream(QUESTION) as run:
            async for piece in run.stream_text(delta=True, debounce_by=None):
                heard(piece)

    yield ask


@asynccontextmanager
async def openai_agents(base_url: str, heard: Heard) -> AsyncIterator[Ask]:
    from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled

    set_tracing_disabled(True)
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:
        agent = Agent(name="Counter", model=OpenAIResponsesModel(MODEL, client))

        async def ask() -> None:
            async for event in Runner.run_streamed(agent, QUESTION).stream_events():
                if event.type == "raw_response_event" and event.data.type == ANSWER:
                    heard(event.data.delta)

        yield ask


FLOOR: Final = Contender("raw socket + json", raw_socket)
OURS: Final = Contender("this provider, with a hook", this_provider)
SDK: Final = Contender("openai SDK, create(stream=True)", sdk_create)
CONTENDERS: Final = (
    FLOOR,
    OURS,
    SDK,
    Contender("openai SDK, responses.stream()", sdk_stream),
    Contender("openai-agents", openai_agents, "agents"),
    Contender("langchain-openai", langchain, "langchain_openai"),
    Contender("pydantic-ai", pydantic_ai, "pydantic_ai"),
)


def named(name: str) -> Contender:
    return next(one for one in CONTENDERS if one.name == name)
