"""Other libraries that stream from the same server, each used as its documentation shows; imported if installed."""

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any, assert_never

import openai

from bench.contender import ANSWER, KEY, MODEL, Ask, Heard
from bench.conversation import QUESTION, TOOL, Call, Result, Step, Text, chat_messages, response_items


@asynccontextmanager
async def langchain(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=base_url, api_key=KEY, use_responses_api=True)
    yield _langchain(model, on_text, [_langchain_message(step, n) for n, step in enumerate(steps)])


@asynccontextmanager
async def langchain_chat(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    from langchain_core.messages import convert_to_messages
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=base_url, api_key=KEY)
    yield _langchain(model, on_text, convert_to_messages(chat_messages(steps)))


def _langchain(model: Any, on_text: Heard, messages: Sequence[Any]) -> Ask:
    async def ask() -> None:
        async for chunk in model.astream(messages):
            on_text(chunk.text)

    return ask


def _langchain_message(step: Step, n: int) -> Any:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    match step:
        case Text(role="system", text=text):
            return SystemMessage(text)
        case Text(role="user", text=text):
            return HumanMessage(text)
        case Text(text=text):
            return AIMessage([{"type": "text", "text": text, "annotations": [], "id": f"msg_{n}"}])
        case Call(id=call_id, input=arguments):
            reasoning, call = response_items([step])
            return AIMessage([reasoning, call], tool_calls=[{"id": call_id, "name": TOOL, "args": arguments}])
        case Result(call_id=call_id, text=text):
            return ToolMessage(text, tool_call_id=call_id)
        case _:
            assert_never(step)


@asynccontextmanager
async def pydantic_ai(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=base_url, api_key=KEY))
    yield _pydantic_ai(model, on_text, steps, is_chat=False)


@asynccontextmanager
async def pydantic_ai_chat(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=base_url, api_key=KEY))
    yield _pydantic_ai(model, on_text, steps, is_chat=True)


def _pydantic_ai(model: Any, on_text: Heard, steps: Sequence[Step], *, is_chat: bool) -> Ask:
    from pydantic_ai import Agent

    agent = Agent(model)
    history = list(_pydantic_ai_messages(steps, is_chat=is_chat))

    async def ask() -> None:
        async with agent.run_stream(message_history=history) as run:
            async for piece in run.stream_text(delta=True, debounce_by=None):
                on_text(piece)

    return ask


def _pydantic_ai_messages(steps: Sequence[Step], *, is_chat: bool) -> Iterator[Any]:
    """One request or response for each run of steps from the same side."""
    from pydantic_ai.messages import ModelRequest, ModelResponse

    for is_reply, run in groupby(steps, key=_is_reply):
        parts = [part for step in run for part in _pydantic_ai_parts(step, is_chat=is_chat)]
        yield ModelResponse(parts=parts, model_name=MODEL) if is_reply else ModelRequest(parts=parts)


def _is_reply(step: Step) -> bool:
    return isinstance(step, Call) or (isinstance(step, Text) and step.role == "assistant")


def _pydantic_ai_parts(step: Step, *, is_chat: bool) -> list[Any]:
    from pydantic_ai.messages import (
        SystemPromptPart,
        TextPart,
        ThinkingPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    match step:
        case Text(role="system", text=text):
            return [SystemPromptPart(text)]
        case Text(role="user", text=text):
            return [UserPromptPart(text)]
        case Text(text=text):
            return [TextPart(text)]
        case Call(id=call_id, thinking=thinking, input=arguments):
            raw = {"raw_content": [thinking]}  # where a reply of /v1/responses leaves it
            of_responses = ThinkingPart("", id=f"rs_{call_id}", provider_name="openai", provider_details=raw)
            return [ThinkingPart(thinking) if is_chat else of_responses, ToolCallPart(TOOL, arguments, call_id)]
        case Result(call_id=call_id, text=text):
            return [ToolReturnPart(TOOL, text, call_id)]
        case _:
            assert_never(step)


@asynccontextmanager
async def openai_agents(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    from agents import OpenAIResponsesModel

    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:
        yield _openai_agents(OpenAIResponsesModel(MODEL, client), on_text, steps)


@asynccontextmanager
async def openai_agents_chat(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    from agents import OpenAIChatCompletionsModel

    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:
        yield _openai_agents(OpenAIChatCompletionsModel(MODEL, client), on_text, steps)


def _openai_agents(model: Any, on_text: Heard, steps: Sequence[Step]) -> Ask:
    from agents import Agent, Runner, set_tracing_disabled

    set_tracing_disabled(True)
    agent = Agent(name="Counter", model=model)
    items = response_items(steps)

    async def ask() -> None:
        async for event in Runner.run_streamed(agent, items).stream_events():
            if event.type == "raw_response_event" and event.data.type == ANSWER:
                on_text(event.data.delta)

    return ask


@asynccontextmanager
async def litellm_chat(base_url: str, on_text: Heard, steps: Sequence[Step] = QUESTION, /) -> AsyncIterator[Ask]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its prices are fetched from the internet otherwise
    import litellm

    messages = chat_messages(steps)
    settings = {"model": f"hosted_vllm/{MODEL}", "api_base": base_url, "api_key": KEY, "stream": True}

    async def ask() -> None:
        async for chunk in await litellm.acompletion(messages=messages, **settings):
            on_text(chunk.choices[0].delta.content or "")

    yield ask
