"""All contenders: the floor, this provider, the SDK and the peers."""

import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import openai
from amplifier_core import HookResult
from amplifier_core.message_models import ChatRequest
from amplifier_core.testing import create_test_coordinator

from amplifier_module_provider_vllm import mount
from bench.contender import ANSWER, GPT_OSS, KEY, MODEL, Ask, Contender, Heard, Open, Wire
from bench.conversation import QUESTION, Json, Step, amplifier_messages, chat_messages, response_items
from bench.peers import (
    langchain,
    langchain_chat,
    litellm_chat,
    openai_agents,
    openai_agents_chat,
    pydantic_ai,
    pydantic_ai_chat,
)
from bench.replay_server import BYTES_PER_TOKEN
from tests.support.vocabulary import vocabulary_folder


def raw_socket(wire: Wire) -> Open:
    """The floor: send the request as JSON, read lines from a blocking socket, and parse each one."""
    path, body_of, text_of = RAW[wire]

    @asynccontextmanager
    async def opened(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
        address = urlsplit(base_url)
        head = f"POST /v1/{path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
        request = {"model": MODEL, **body_of(steps), "stream": True, "temperature": 0}
        with (
            socket.create_connection((address.hostname, address.port)) as connection,
            connection.makefile("rb", buffering=65536) as lines,
        ):

            async def ask() -> None:
                body = json.dumps(request).encode()
                connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                _read_answer(lines, text_of, on_text)

            yield ask

    return opened


def _read_answer(lines: Iterable[bytes], text_of: Callable[[Any], str | None], on_text: Heard) -> None:
    is_end = False
    for line in lines:
        if line.startswith(b"data: {"):
            if text := text_of(json.loads(line[6:])):
                on_text(text)
        elif line == b"0\r\n":
            is_end = True
        elif is_end:
            return


def _response_text(event: Any) -> str | None:
    text: str | None = event["delta"] if event["type"] == ANSWER else None
    return text


def _chat_text(chunk: Any) -> str | None:
    text: str | None = chunk["choices"][0]["delta"].get("content")
    return text


def _completion_text(chunk: Any) -> str | None:
    text: str = chunk["choices"][0]["text"]
    return text


def _chat_body(steps: Sequence[Step]) -> Json:
    return {"messages": chat_messages(steps)}


def _prompt_body(steps: Sequence[Step]) -> Json:
    """A prompt of about as many token ids as the conversation has."""
    ids = len(json.dumps(chat_messages(steps))) // BYTES_PER_TOKEN
    return {"prompt": [*range(100, 100 + ids)], "return_token_ids": True}


RAW: Final[Mapping[Wire, tuple[str, Callable[[Sequence[Step]], Json], Callable[[Any], str | None]]]] = {
    "responses": ("responses", lambda steps: {"input": response_items(steps)}, _response_text),
    "chat": ("chat/completions", _chat_body, _chat_text),
    "chat with ids": ("chat/completions", lambda steps: {**_chat_body(steps), "return_token_ids": True}, _chat_text),
    "chat with logprobs": (
        "chat/completions",
        lambda steps: {**_chat_body(steps), "return_token_ids": True, "logprobs": True},
        _chat_text,
    ),
    "completions": ("completions", _prompt_body, _completion_text),
    "completions of gpt-oss": (
        "completions",
        lambda steps: {**_prompt_body(steps), "model": GPT_OSS},
        _completion_text,
    ),
}
"""The path, the body of a request, and the text of an event."""


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
async def sdk_chat(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    messages: Any = chat_messages(steps)
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:

        async def ask() -> None:
            async for chunk in await client.chat.completions.create(model=MODEL, messages=messages, stream=True):
                on_text(chunk.choices[0].delta.content or "")

        yield ask


def this_provider(**config: Any) -> Open:
    """A whole `complete()`, through the kernel's own hooks to a listener."""

    @asynccontextmanager
    async def opened(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
        coordinator = create_test_coordinator()

        async def listen(_event: str, data: dict[str, Any]) -> HookResult:
            if data["block_type"] == "text":
                on_text(data["text"])
            return HookResult(action="continue")

        async def keep(_event: str, _data: dict[str, Any]) -> HookResult:
            return HookResult(action="continue")

        coordinator.hooks.register("llm:stream_block_delta", listen, priority=0, name="listen")
        coordinator.hooks.register("llm:tokens", keep, priority=0, name="keep")
        settings = {"base_url": base_url, "default_model": MODEL, "temperature": 0, **config}
        cleanup = await mount(coordinator, settings)
        provider = coordinator.get("providers")["vllm"]
        request = ChatRequest(messages=amplifier_messages(steps))

        async def ask() -> None:
            await provider.complete(request)

        yield ask
        await cleanup()

    return opened


@asynccontextmanager
async def gpt_oss_completions(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    """Its replies are parsed from token ids, with the vocabulary."""
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(vocabulary_folder())
    async with this_provider(endpoint="completions", default_model=GPT_OSS)(base_url, on_text, steps) as ask:
        yield ask


LITELLM: Final = Path(__file__).parents[1] / ".venv-bench-litellm"

FLOOR: Final = Contender("raw socket + json", raw_socket("responses"))
OURS: Final = Contender("this provider, with a hook", this_provider())
SDK: Final = Contender("openai SDK, create(stream=True)", sdk_create)
_WITH_HISTORY: Final = (
    FLOOR,
    OURS,
    SDK,
    Contender("openai-agents", openai_agents, "responses", "agents"),
    Contender("langchain-openai", langchain, "responses", "langchain_openai"),
    Contender("pydantic-ai", pydantic_ai, "responses", "pydantic_ai"),
    Contender("raw socket + json (chat)", raw_socket("chat"), "chat"),
    Contender("this provider, with a hook (chat)", this_provider(endpoint="chat"), "chat"),
    # A session that states a cap gets the token ids, by which a reply that the cap cuts goes on exactly.
    Contender(
        "this provider, with a hook (chat with ids)", this_provider(endpoint="chat", max_tokens=32_768), "chat with ids"
    ),
    Contender("openai SDK, create(stream=True) (chat)", sdk_chat, "chat"),
    Contender("openai-agents (chat)", openai_agents_chat, "chat", "agents"),
    Contender("langchain-openai (chat)", langchain_chat, "chat", "langchain_openai"),
    Contender("pydantic-ai (chat)", pydantic_ai_chat, "chat", "pydantic_ai"),
    Contender("litellm (chat)", litellm_chat, "chat", "litellm", LITELLM),
    Contender("raw socket + json (completions)", raw_socket("completions"), "completions"),
    Contender("this provider, with a hook (completions)", this_provider(endpoint="completions"), "completions"),
)

STREAMING: Final = (
    *_WITH_HISTORY,
    Contender("openai SDK, responses.stream()", sdk_stream),
    Contender("raw socket + json (chat with ids)", raw_socket("chat with ids"), "chat with ids"),
    Contender("raw socket + json (chat with logprobs)", raw_socket("chat with logprobs"), "chat with logprobs"),
    Contender(
        "this provider, with a hook (chat, return_token_ids)",
        this_provider(endpoint="chat", return_token_ids=True),
        "chat with logprobs",
    ),
    Contender(
        "raw socket + json (completions of gpt-oss)", raw_socket("completions of gpt-oss"), "completions of gpt-oss"
    ),
    Contender("this provider, with a hook (completions of gpt-oss)", gpt_oss_completions, "completions of gpt-oss"),
)
HISTORY: Final = _WITH_HISTORY


def find_contender(name: str) -> Contender:
    return next(one for one in STREAMING if one.name == name)
