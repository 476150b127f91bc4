"""`enable_state` with servers that store replies and servers that do not: the answers are equal and correct."""

from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse, Message

from amplifier_module_provider_vllm import VLLMProvider
from tests.live.endpoints import with_token_ids
from tests.live.servers import GPT_OSS, QWEN, STORING_GPT_OSS, STORING_QWEN
from tests.rig.prompts import Wire
from tests.rig.server import LiveServer
from tests.rig.tap import Tap
from tests.support.exchange import (
    CAPITAL,
    WEATHER,
    block_contents,
    mounted_provider,
    open_provider,
    with_tool_results,
)
from tests.support.session import open_session, vllm

pytestmark = pytest.mark.live

ALL = [QWEN, GPT_OSS, STORING_QWEN, STORING_GPT_OSS]
COUNTED = ", ".join(str(number) for number in range(1, 101))


class Conversation:
    """A provider and its raw requests and replies."""

    def __init__(self, server: LiveServer, *, enable_state: bool = True) -> None:
        self.wire = Wire(server.base_url)
        self.provider = VLLMProvider(client=self.wire.client, config={"temperature": 0, "enable_state": enable_state})

    @property
    def sent_items(self) -> list[tuple[list[str], bool]]:
        """The item types of every request, and whether it has a previous_response_id."""
        return [
            ([item["type"] for item in asked["input"]], "previous_response_id" in asked)
            for asked in self.wire.request_bodies
        ]

    async def capitals(self, *countries: str) -> list[tuple[tuple[str, Any], int]]:
        """The answers to one question after the other, in one conversation, and the tokens of each prompt."""
        request, answers = ChatRequest(messages=[]), []
        for country in countries:
            request = next_request(request, f"What is the capital of {country}?")
            response = await self.provider.complete(request)
            request = next_request(request, response)
            assert response.usage is not None
            answers.append((block_contents(response)[-1], response.usage.input_tokens))
        return answers


def next_request(request: ChatRequest, reply: str | ChatResponse) -> ChatRequest:
    added = (
        Message(role="user", content=reply)
        if isinstance(reply, str)
        else Message(role="assistant", content=reply.content)
    )
    return request.model_copy(update={"messages": [*request.messages, added]})


async def test_a_server_with_a_store_is_sent_only_new_items(storing_server: LiveServer) -> None:
    state, stateless = Conversation(storing_server), Conversation(storing_server, enable_state=False)

    async with state.wire.client, stateless.wire.client:
        answers = await state.capitals("France", "Germany", "Japan")
        told_everything = await stateless.capitals("France", "Germany", "Japan")

    assert answers == told_everything
    assert [words for (_, words), _ in answers[:2]] == [
        "The capital of France is Paris.",
        "The capital of Germany is Berlin.",
    ]
    assert state.sent_items == [(["message"], False), (["message"], True), (["message"], True)]
    assert all(asked["store"] is True for asked in state.wire.request_bodies)


async def test_a_tool_turn_continues_from_the_store_if_the_server_stores_calls(storing_server: LiveServer) -> None:
    state = Conversation(storing_server)

    async with state.wire.client:
        asked = await state.provider.complete(WEATHER)
        following = with_tool_results(WEATHER, asked, "sunny, 21 C")
        reply = await state.provider.complete(following)
        last = await state.provider.complete(
            next_request(next_request(following, reply), "What is the capital of Germany?")
        )

    assert block_contents(reply)[-1] == ("text", "It is sunny and 21 degrees in Paris.")
    assert block_contents(last)[-1] == ("text", "The capital of Germany is Berlin.")
    turn = ["message", "reasoning", "function_call", "function_call_output"]
    if storing_server.model == "tiny-gpt-oss":
        assert state.sent_items == [(["message"], False), (["function_call_output"], True), (["message"], True)]
    else:  # vLLM keeps a conversation's messages but not its calls (vLLM #43244)
        assert state.sent_items == [
            (["message"], False),
            (turn, False),
            ([*turn, "reasoning", "message", "message"], False),
        ]


async def test_a_changed_history_is_sent_in_full(storing_server: LiveServer) -> None:
    state = Conversation(storing_server)

    async with state.wire.client:
        response = await state.provider.complete(CAPITAL)
        changed = next_request(CAPITAL, "Or rather:")
        later = next_request(next_request(changed, response), "What is the capital of Japan?")
        await state.provider.complete(later)

    assert [goes_on for _, goes_on in state.sent_items] == [False, False]


async def test_a_request_with_other_tools_gets_the_same_reply_with_and_without_state(
    storing_server: LiveServer,
) -> None:
    replies = []
    for conversation in (Conversation(storing_server), Conversation(storing_server, enable_state=False)):
        async with conversation.wire.client:
            answer = await conversation.provider.complete(CAPITAL)
            offered = next_request(next_request(CAPITAL, answer), WEATHER.messages[-1].content)  # type: ignore[arg-type]
            call = await conversation.provider.complete(offered.model_copy(update={"tools": WEATHER.tools}))
            withdrawn = await conversation.provider.complete(offered)
        replies.append([block_contents(one) for one in (answer, call, withdrawn)])

    with_state, without_state = replies
    assert with_state == without_state
    assert with_state[1][-1] == ("get_weather", {"city": "Paris"})
    assert "get_weather" not in [name for name, _ in with_state[2]]


async def test_state_is_disabled_after_two_misses(server: LiveServer) -> None:
    state, stateless = Conversation(server), Conversation(server, enable_state=False)
    countries = ["France", "Germany", "England", "Japan", "France"]

    async with state.wire.client, stateless.wire.client:
        answers = await state.capitals(*countries)
        told_everything = await stateless.capitals(*countries)

    full = [["message", *["reasoning", "message", "message"] * turn] for turn in range(5)]
    assert answers == told_everything
    assert state.sent_items == [
        (full[0], False),
        (["message"], True),
        (full[1], False),
        (["message"], True),
        (full[2], False),
        (full[3], False),
        (full[4], False),
    ]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize(
    "server", ALL, ids=["tiny-qwen3", "tiny-gpt-oss", "tiny-qwen3-store", "tiny-gpt-oss-store"], indirect=True
)
async def test_a_session_with_tools_gets_the_same_answers_with_and_without_state(
    server: LiveServer, stream: bool
) -> None:
    answers = []
    for enable_state in (True, False):
        plan = vllm(server.base_url, temperature=0, enable_state=enable_state, use_streaming=stream)
        async with open_session(plan, tools=["get_weather"]) as session:
            asked = ["What is the capital of France?", "What is the weather in Paris?", "What is the capital of Japan?"]
            answers.append([(await session.ask(question)).strip() for question in asked])
            assert session.payloads("provider:retry") == []

    assert answers[0] == answers[1]
    assert answers[0][:2] == ["The capital of France is Paris.", "It is sunny and 21 degrees in Paris."]


@with_token_ids
async def test_at_the_other_endpoints_the_history_is_sent_in_full_and_reported(
    server: LiveServer, endpoint: str
) -> None:
    async with open_provider(server.base_url, endpoint=endpoint, enable_state=True) as provider:
        first = await provider.complete(CAPITAL)
        request = next_request(next_request(CAPITAL, first), "What is the capital of Germany?")
        second = await provider.complete(request)

    assert block_contents(second)[-1] == ("text", "The capital of Germany is Berlin.")
    for response in (first, second):
        assert response.degradation is not None
        assert (response.degradation.requested, response.degradation.actual) == (
            "stored replies",
            "the whole history with every request",
        )


async def test_a_turn_after_a_continued_count_is_answered_with_state(storing_server: LiveServer) -> None:
    async with (
        Tap(storing_server.base_url) as tap,
        open_session(vllm(tap.base_url, temperature=0, enable_state=True, max_output_tokens=120)) as session,
    ):
        counted = await session.ask("Count from 1 to 100.")
        answer = await session.ask("What is the capital of Japan?")
        await mounted_provider(session).close()

    assert COUNTED in counted
    assert answer.strip() == "The capital of Japan is Tokyo."
    assert len(tap.replies) > 2
