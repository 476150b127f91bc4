"""A session may change its endpoint between two calls: the next prompt begins with the last one, which is cached."""

import itertools
import uuid

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse, Message

from tests.live.endpoints import ENDPOINTS, later
from tests.rig.server import LiveServer
from tests.support.exchange import GET_WEATHER, block_contents, open_provider, with_tool_results

pytestmark = pytest.mark.live

BLOCK = 128
"""Tokens: vLLM caches whole blocks of a prompt, which have this size on a CPU."""

SYSTEM = Message(role="system", content="You are a brief assistant.\n\nAnswer in English. " * 8)
"""So long that the first prompt fills a block."""

IN_EVERY_RUN = (("responses", "chat", "completions"), ("completions", "chat", "responses"))


@pytest.mark.usefixtures("vocabulary")
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, id="-".join(order), marks=() if order in IN_EVERY_RUN else later)
        for order in itertools.permutations(ENDPOINTS)
    ],
)
async def test_a_tool_turn_goes_on_at_other_endpoints_and_its_prompt_is_cached(
    server: LiveServer, order: tuple[str, str, str]
) -> None:
    calling, answering, following = order
    salt = uuid.uuid4().hex  # the cache has nothing of earlier tests

    asked = ChatRequest(messages=[SYSTEM, _question("What is the weather in Paris?")], tools=[GET_WEATHER])
    call = await _reply(server, calling, asked, salt)
    asked = with_tool_results(asked, call, "sunny, 21 C")
    answer = await _reply(server, answering, asked, salt)
    said = Message(role="assistant", content=answer.content)
    messages = [*asked.messages, said, _question("What is the capital of Germany?")]
    last = await _reply(server, following, asked.model_copy(update={"messages": messages}), salt)

    assert block_contents(call)[-1] == ("get_weather", {"city": "Paris"})
    assert block_contents(answer)[-1] == ("text", "It is sunny and 21 degrees in Paris.")
    assert block_contents(last)[-1] == ("text", "The capital of Germany is Berlin.")
    # At completions a prompt of gpt-oss is rendered by a chat call, which caches it.
    assert _cached(call) == 0 or calling == "completions"
    assert _cached(answer) >= BLOCK
    assert _cached(last) >= BLOCK


def _question(text: str) -> Message:
    return Message(role="user", content=text)


def _cached(response: ChatResponse) -> int:
    assert response.usage is not None
    return response.usage.cache_read_tokens or 0


async def _reply(server: LiveServer, endpoint: str, request: ChatRequest, salt: str) -> ChatResponse:
    config = {"endpoint": endpoint, "extra_request_params": {"cache_salt": salt}}
    async with open_provider(server.base_url, **config) as provider:
        return await provider.complete(request)
