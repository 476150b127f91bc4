"""`enable_state`: only new items are sent while the server has the rest; else the full history."""

from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse, Message, ToolSpec

from tests.support.event_recorder import provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply
from tests.support.replies import call_item, full_reply, message_item, reasoning_item

GONE = load_recording("tiny-qwen3", "st_previous_unknown")
GONE_ELSEWHERE = json_reply(400, {"error": {"message": "No such response.", "code": "previous_response_not_found"}})
HARMONY = json_reply(200, {"object": "list", "data": [{"id": "gpt-oss-20b", "max_model_len": 4096}]})


def user_message(text: str) -> Message:
    return Message(role="user", content=text)


def assistant_message(response: ChatResponse) -> Message:
    return Message(role="assistant", content=response.content)


async def conversation(server: ReplayServer, *questions: str, tools: list[ToolSpec] | None = None) -> list[Any]:
    """The request bodies of these questions, asked in turn."""
    messages: list[Message] = []
    async with provider_at(server.base_url, enable_state=True) as provider:
        for question in questions:
            messages.append(user_message(question))
            response = await provider.complete(ChatRequest(messages=messages, tools=tools))
            messages.append(assistant_message(response))
            messages += [
                Message(role="tool", tool_call_id=one.id, content="sunny") for one in response.tool_calls or []
            ]
    return server.request_bodies


def answers(count: int) -> list[Reply]:
    return [full_reply(reasoning_item(f"T{n}"), message_item(f"A{n}"), response_id=f"resp_{n}") for n in range(count)]


def shape(bodies: list[dict[str, Any]]) -> list[tuple[str | None, int]]:
    return [(body.get("previous_response_id"), len(body["input"])) for body in bodies]


async def test_only_new_items_are_sent_with_the_id_of_the_stored_reply() -> None:
    async with ReplayServer(*answers(3)) as server:
        bodies = await conversation(server, "one", "two", "three")

    assert shape(bodies) == [(None, 1), ("resp_0", 1), ("resp_1", 1)]
    assert bodies[2]["input"] == [{"type": "message", "role": "user", "content": "three"}]
    assert all(body["store"] is True for body in bodies)


@pytest.mark.parametrize("gone", [GONE, GONE_ELSEWHERE], ids=["vLLM", "gateways"])
async def test_after_a_server_restart_the_full_history_is_sent_once(gone: Any) -> None:
    first, second, third = answers(3)

    async with ReplayServer(first, gone, second, third) as server:
        bodies = await conversation(server, "one", "two", "three")

    assert shape(bodies) == [(None, 1), ("resp_0", 1), (None, 4), ("resp_1", 1)]


async def test_state_is_disabled_after_two_misses() -> None:
    a, b, c, d = answers(4)

    async with ReplayServer(a, GONE, b, GONE, c, d) as server:
        bodies = await conversation(server, "one", "two", "three", "four")

    assert shape(bodies) == [(None, 1), ("resp_0", 1), (None, 4), ("resp_1", 1), (None, 7), (None, 10)]


async def test_a_compacted_history_is_sent_in_full() -> None:
    async with ReplayServer(*answers(2)) as server, provider_at(server.base_url, enable_state=True) as provider:
        response = await provider.complete(ChatRequest(messages=[user_message("one")]))
        compacted = [user_message("In short: one."), assistant_message(response), user_message("two")]
        await provider.complete(ChatRequest(messages=compacted))

    assert shape(server.request_bodies) == [(None, 1), (None, 4)]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        pytest.param(None, [(None, 1), (None, 4)], id="a chat template loses calls"),
        pytest.param(HARMONY, [(None, 1), ("resp_1", 2)], id="harmony keeps them"),
    ],
)
async def test_stored_calls_are_used_only_if_the_server_stores_them(
    models: Reply | None, expected: list[tuple[str | None, int]]
) -> None:
    replies = [full_reply(reasoning_item("T"), call_item("{}")), full_reply(message_item("It is sunny."))]

    async with ReplayServer(*replies, models=models) as server:
        bodies = await conversation(server, "weather?", "and?", tools=[ToolSpec(name="get_weather", parameters={})])

    assert [body.get("previous_response_id") for body in bodies] == [kept for kept, _ in expected]
    assert [item["type"] for item in bodies[1]["input"]][-2:] == ["function_call_output", "message"]


async def test_the_full_history_is_sent_if_state_is_disabled() -> None:
    async with ReplayServer(*answers(2)) as server, provider_at(server.base_url) as provider:
        response = await provider.complete(ChatRequest(messages=[user_message("one")]))
        await provider.complete(
            ChatRequest(messages=[user_message("one"), assistant_message(response), user_message("two")])
        )

    assert shape(server.request_bodies) == [(None, 1), (None, 4)]
    assert all(body["store"] is False for body in server.request_bodies)
