"""A reply that our cap cut, after any number of tokens, goes on by its token ids: it equals the uncut reply."""

import asyncio
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse

from tests.live.endpoints import later, with_token_ids
from tests.rig.server import LiveServer
from tests.support.call_events import assert_contract
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.exchange import CAPITAL, TWO_WEATHERS, WEATHER, comparable, user

pytestmark = pytest.mark.live

AT_ONCE = 4
"""Replies. They are short and their rounds many, so that one after the other the server would be idle half the time."""

# The reasoning's share of the output is the server's, which counts a call of gpt-oss as reasoning, or estimated.
NOT_EXACT = {"reasoning_tokens"}
ROUNDS_REPORT = "metadata"

PREAMBLE = user("Say what you do, then check the weather in Paris.", *(WEATHER.tools or []))


@with_token_ids
@pytest.mark.parametrize("stream", [True, pytest.param(False, marks=later)], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize(
    "question",
    [
        pytest.param(WEATHER, id="call"),
        pytest.param(CAPITAL, id="answer", marks=later),
        pytest.param(PREAMBLE, id="text-and-call", marks=later),
    ],
)
async def test_a_reply_cut_after_any_number_of_tokens_equals_the_uncut_reply(
    server: LiveServer, endpoint: str, question: ChatRequest, stream: bool
) -> None:
    assert await _differences(server, question, endpoint=endpoint, use_streaming=stream) == {}


@later
@with_token_ids
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_parallel_calls_cut_after_any_number_of_tokens_equal_the_uncut_calls(
    qwen: LiveServer, endpoint: str, stream: bool
) -> None:
    assert await _differences(qwen, TWO_WEATHERS, endpoint=endpoint, use_streaming=stream) == {}


async def _differences(server: LiveServer, question: ChatRequest, **config: Any) -> dict[int, Any]:
    """The replies that differ from the uncut one, by the tokens of each round. Hooks see all of them."""
    uncut = await _reply(server, question, **config)
    assert uncut.usage is not None
    most, turns = uncut.usage.output_tokens, asyncio.Semaphore(AT_ONCE)

    async def cut(cap: int) -> ChatResponse:
        async with turns:
            return await _reply(server, question, max_tokens=cap, max_continuations=most, **config)

    replies = await asyncio.gather(*map(cut, range(1, most + 1)))
    expected = _exact_parts(uncut)
    return {cap: parts for cap, parts in enumerate(map(_exact_parts, replies), 1) if parts != expected}


async def _reply(server: LiveServer, question: ChatRequest, **config: Any) -> ChatResponse:
    recorder = EventRecorder()
    async with provider_at(server.base_url, recorder, temperature=0, **config) as provider:
        response = await provider.complete(question)
    assert_contract(recorder, response)
    return response


def _exact_parts(response: ChatResponse) -> dict[str, Any]:
    parts = comparable(response)
    usage = {name: count for name, count in parts["usage"].items() if name not in NOT_EXACT}
    return {name: part for name, part in parts.items() if name != ROUNDS_REPORT} | {"usage": usage}
