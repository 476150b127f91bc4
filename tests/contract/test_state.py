"""`enable_state`: only new items are sent while the server has the rest; else the full history."""

import asyncio
import gc
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from amplifier_core.message_models import (
    ChatRequest,
    ChatResponse,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolSpec,
)

from tests.support.event_recorder import provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply, reply
from tests.support.replies import call_item, full_reply, message_item, reasoning_item
from tests.support.wire import event, sse_reply

GONE = load_recording("tiny-qwen3", "st_previous_unknown")
GONE_ELSEWHERE = json_reply(400, {"error": {"message": "No such response.", "code": "previous_response_not_found"}})
GONE_IN_A_STREAM = sse_reply(event("error", status=404, error={"message": "not found: Response with id 'resp_0'"}))
BUSY = json_reply(503, {"error": {"message": "busy"}})
HARMONY = json_reply(200, {"object": "list", "data": [{"id": "gpt-oss-20b", "max_model_len": 4096}]})


def user_message(text: str) -> Message:
    return Message(role="user", content=text)


def picture_message(data: str) -> Message:
    return Message(role="user", content=[ImageBlock(source={"type": "base64", "data": data})])


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


@pytest.mark.parametrize("gone", [GONE, GONE_ELSEWHERE, GONE_IN_A_STREAM], ids=["vLLM", "gateways", "error events"])
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


async def test_a_restart_with_several_conversations_does_not_disable_state() -> None:
    questions = ("one", "two", "three")
    replies = [full_reply(message_item(f"A{n}"), response_id=f"resp_{n}") for n in range(9)]
    queue = [*replies[:3], *(each for reply in replies[3:6] for each in (GONE, reply)), *replies[6:]]

    async with ReplayServer(*queue) as server, provider_at(server.base_url, enable_state=True) as provider:
        histories = [[user_message(question)] for question in questions]
        for _ in range(3):
            for history in histories:
                response = await provider.complete(ChatRequest(messages=history))
                history += [assistant_message(response), user_message("and?")]

    assert [body.get("previous_response_id") for body in server.request_bodies[-3:]] == ["resp_3", "resp_4", "resp_5"]


async def test_two_calls_that_miss_the_same_stored_reply_at_once_are_both_answered() -> None:
    first, *others = answers(3)
    gone = replace(reply(GONE), delay_before_headers=0.1)

    async with (
        ReplayServer(first, gone, gone, *others) as server,
        provider_at(server.base_url, enable_state=True) as provider,
    ):
        response = await provider.complete(ChatRequest(messages=[user_message("one")]))
        history = [user_message("one"), assistant_message(response)]
        requests = [ChatRequest(messages=[*history, user_message(text)]) for text in ("two", "three")]
        responses: list[Any] = await asyncio.gather(*map(provider.complete, requests))

    assert {response.text for response in responses} == {"A1", "A2"}


async def test_a_server_without_a_store_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    a, b, c, d = answers(4)

    async with ReplayServer(a, GONE, b, GONE, c, d) as server:
        await conversation(server, "one", "two", "three", "four")

    assert [record.levelname for record in caplog.records if "keeps no replies" in record.message] == ["WARNING"]


@pytest.mark.parametrize(
    "changed",
    [
        {"tools": [ToolSpec(name="get_time", parameters={})]},
        {"tools": None},
        {"tool_choice": "none"},
        {"reasoning_effort": "high"},
    ],
    ids=["another tool", "no tools", "no calls", "another effort"],
)
async def test_a_request_with_other_tools_or_effort_is_sent_in_full(changed: dict[str, Any]) -> None:
    same = {"tools": [ToolSpec(name="get_weather", parameters={})], "reasoning_effort": "low"}

    async with (
        ReplayServer(*answers(3), models=HARMONY) as server,
        provider_at(server.base_url, enable_state=True) as provider,
    ):
        messages = [user_message("one")]
        for fields in (same, same, same | changed):
            response = await provider.complete(ChatRequest(messages=messages, **fields))
            messages += [assistant_message(response), user_message("and?")]

    assert shape(server.request_bodies) == [(None, 1), ("resp_0", 1), (None, 7)]


async def test_the_ids_of_stored_items_are_never_used_again() -> None:
    history = [
        user_message("one"),
        Message(role="assistant", content=[ThinkingBlock(thinking="T"), TextBlock(text="A")]),
    ]
    request = ChatRequest(messages=[*history, user_message("two")])
    replies = [BUSY, *answers(2)]

    async with ReplayServer(*replies) as server, provider_at(server.base_url, enable_state=True) as provider:
        for _ in range(2):
            await provider.complete(request)

    ids = [item["id"] for body in server.request_bodies for item in body["input"] if "id" in item]
    assert len(set(ids)) == len(ids) == 6


async def test_a_gateway_whose_store_keeps_calls_gets_only_the_results() -> None:
    stored = "resp_01a1fe18-33c0-7542-ac3c-6a2add4c1583"
    replies = [
        full_reply(reasoning_item("T"), call_item("{}"), response_id=stored),
        full_reply(message_item("It is sunny.")),
    ]

    async with ReplayServer(*replies) as server:
        bodies = await conversation(server, "weather?", "and?", tools=[ToolSpec(name="get_weather", parameters={})])

    assert shape(bodies) == [(None, 1), (stored, 2)]
    assert [item["type"] for item in bodies[1]["input"]] == ["function_call_output", "message"]


async def test_a_stored_conversation_does_not_keep_its_images() -> None:
    async with (
        ReplayServer(*answers(8)) as server,
        provider_at(server.base_url, enable_state=True) as provider,
    ):
        await provider.complete(ChatRequest(messages=[user_message("warm up")]))
        server.requests.clear()
        tracemalloc.start()
        for n in range(6):
            await provider.complete(ChatRequest(messages=[picture_message(f"{n}" * 3_000_000)]))
            server.requests.clear()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert kept < 6_000_000


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
