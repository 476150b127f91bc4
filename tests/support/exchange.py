"""Requests for the tiny models, and the parts of their replies that tests compare."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from amplifier_core.message_models import (
    ChatRequest,
    ChatResponse,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolSpec,
)

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.session import Session

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GET_WEATHER = ToolSpec(name="get_weather", description="Get the weather in a city.", parameters=CITY)


def user(text: str, *tools: ToolSpec, **fields: Any) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content=text)], tools=list(tools) or None, **fields)


CAPITAL = user("What is the capital of France?")
WEATHER = user("What is the weather in Paris?", GET_WEATHER)
TWO_WEATHERS = user("Compare the weather in Paris and London.", GET_WEATHER)
COUNT = user("Count from 1 to 100.")


@asynccontextmanager
async def open_provider(base_url: str, **config: Any) -> AsyncIterator[VLLMProvider]:
    """A provider outside any session, at temperature 0."""
    provider = VLLMProvider(base_url, config={"temperature": 0, **config})
    try:
        yield provider
    finally:
        await provider.close()


def mounted_provider(session: Session, instance: str = "vllm") -> VLLMProvider:
    """The session's provider with this instance name."""
    provider: VLLMProvider = session.coordinator.get("providers")[instance]
    return provider


def with_tool_results(request: ChatRequest, response: ChatResponse, *outputs: str) -> ChatRequest:
    """The request that follows a reply with calls, one output for each of them."""
    results = [
        Message(role="tool", name=call.name, tool_call_id=call.id, content=output)
        for call, output in zip(response.tool_calls or [], outputs, strict=True)
    ]
    reply = Message(role="assistant", content=response.content)
    return request.model_copy(update={"messages": [*request.messages, reply, *results]})


def block_contents(response: ChatResponse) -> list[tuple[str, str | dict[str, Any]]]:
    """Each block's type and content, without the line breaks that Qwen's template adds."""
    return [_block_content(block) for block in response.content]


def without_control_tokens(text: str) -> str:
    """The text without control tokens: vLLM leaves one in some schema-bound texts of gpt-oss."""
    return re.sub(r"<\|\w+\|>", "", text)


def comparable(response: ChatResponse) -> dict[str, Any]:
    """A reply without the values that differ between requests.

    These are its ids (of the response and of the calls), and how much of the prompt its cache had from the requests
    before. All else is equal for the same question at temperature 0, streamed or not.
    """
    comparable_fields: dict[str, Any] = _without_choices(response.model_dump())
    return comparable_fields


def _block_content(block: object) -> tuple[str, str | dict[str, Any]]:
    match block:
        case ThinkingBlock(thinking=text):
            return "thinking", text.strip()
        case TextBlock(text=text):
            return "text", text.strip()
        case ToolCallBlock(name=name, input=arguments):
            return name, arguments
        case _:
            raise AssertionError(f"a reply has no such block: {block!r}")


def _without_choices(value: Any) -> Any:
    match value:
        case Mapping():
            chosen = {"id", "vllm:response_id", "cache_read_tokens", "cache_write_tokens"}
            return {key: _without_choices(inner) for key, inner in value.items() if key not in chosen}
        case list():
            return [_without_choices(inner) for inner in value]
        case _:
            return value
