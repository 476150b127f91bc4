"""The events of a call: their origin, the cost, and the configured amount of detail."""

import asyncio
import json
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse, ImageBlock, Message, TextBlock, ThinkingBlock

from amplifier_module_provider_vllm import mount
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, reply

ANSWER, TOOL = load_recording("tiny-qwen3", "r1_answer_stream"), load_recording("tiny-qwen3", "r2_tool_stream")
QUESTION = ChatRequest(messages=[Message(role="user", content="What is the weather in Paris?")])


async def test_request_and_response_events_name_the_instance_the_server_and_the_model() -> None:
    recorder = EventRecorder()

    async with ReplayServer(TOOL) as server, provider_at(server.base_url, recorder) as provider:
        await recorder.coordinator.mount("providers", provider, name="second")
        response = await provider.complete(QUESTION)

    (request_event,), (response_event,) = recorder.payloads("llm:request"), recorder.payloads("llm:response")
    origin = {"provider": "vllm", "instance": "second", "base_url": server.base_url, "model": "tiny-qwen3"}
    assert origin.items() <= request_event.items()
    assert origin.items() <= response_event.items()
    assert (request_event["message_count"], request_event["tool_count"], request_event["stream"]) == (1, 0, True)
    assert (request_event["has_instructions"], request_event["reasoning_enabled"]) == (False, False)
    assert response_event["continuation_count"] == 0
    assert response.usage is not None
    assert response_event["usage"] == {"cost_usd": None, **response.usage.model_dump(exclude_none=True)}


async def test_the_cost_of_each_reply_is_emitted_and_summed() -> None:
    recorder = EventRecorder()
    rates = {"input": 1, "output": 10}

    async with ReplayServer(ANSWER, ANSWER) as server, provider_at(server.base_url, recorder, rates=rates) as provider:
        first, second = [await provider.complete(QUESTION) for _ in range(2)]

    assert first.usage is not None
    assert second.usage is not None
    total = (first.usage.cost_usd or 0) + (second.usage.cost_usd or 0)
    cost = recorder.payloads("llm:response")[0]["usage"]["cost_usd"]
    assert provider.session_cost() == {"cost_usd": str(total)}
    assert cost == str(first.usage.cost_usd)


@pytest.mark.parametrize(
    ("rates", "costs"),
    [({}, []), ({"rates": {"input": 1, "output": 2}}, [{"cost_usd": "0.000067"}])],
    ids=["unknown", "known"],
)
async def test_a_session_sums_known_costs_and_no_unknown_ones(rates: dict[str, Any], costs: list[Any]) -> None:
    recorder = EventRecorder()

    async with ReplayServer(ANSWER) as server:
        cleanup = await mount(recorder.coordinator, {"base_url": server.base_url, **rates})
        await recorder.coordinator.get("providers")["vllm"].complete(QUESTION)
        await cleanup()

    assert await recorder.coordinator.collect_contributions("session.cost") == costs


async def test_raw_events_contain_everything_except_secrets_and_images() -> None:
    recorder = EventRecorder()
    picture = ImageBlock(source={"type": "base64", "media_type": "image/png", "data": "QUJD" * 5000})
    config: dict[str, Any] = {"raw": True, "raw_debug": True, "debug": True, "debug_truncate_length": 20}
    config |= {"extra_headers": {"X-Key": "hidden"}, "api_key": "hidden"}
    config |= {"extra_request_params": {"extra_headers": {"X-Misplaced-Key": "hidden"}}}
    config |= {"hosted_tools": [{"type": "mcp", "server_label": "docs", "headers": {"X-Tool-Key": "hidden"}}]}
    looking = Message(role="user", content=[TextBlock(text="Look at this picture. " * 9), picture])

    async with ReplayServer(ANSWER) as server, provider_at(server.base_url, recorder, **config) as provider:
        await provider.complete(ChatRequest(messages=[looking]))

    names = [name for name in recorder.names if "stream" not in name]
    emitted = json.dumps([event.data for event in recorder.events])
    assert sorted(names) == sorted(
        f"llm:{kind}{detail}" for kind in ("request", "response") for detail in ("", ":debug", ":raw")
    )
    assert "hidden" not in emitted
    assert "QUJDQUJDQUJDQUJDQUJD" not in emitted
    assert recorder.payloads("llm:request")[0]["raw"]["model"] == "tiny-qwen3"
    assert recorder.payloads("llm:response")[0]["raw"]["object"] == "response"
    assert all(len(text) < 60 for text in _strings(recorder.payloads("llm:request:debug")[0]["request"]))


async def test_raw_data_is_emitted_only_if_configured() -> None:
    recorder = EventRecorder()

    async with ReplayServer(ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        await provider.complete(QUESTION)

    assert [name for name in recorder.names if "stream" not in name] == ["llm:request", "llm:response"]
    assert all("raw" not in event.data for event in recorder.events)


async def test_concurrent_calls_have_separate_streams() -> None:
    recorder = EventRecorder()
    answers = [
        reply(load_recording("tiny-qwen3", case), piece=600) for case in ("r1_answer_stream", "r2_tool_stream") * 4
    ]

    async with ReplayServer(*answers) as server, provider_at(server.base_url, recorder) as provider:
        responses = await asyncio.gather(*(provider.complete(QUESTION) for _ in answers))

    ids = {data["request_id"] for data in recorder.payloads("llm:request")}
    shown = {
        one: "".join(data["text"] for data in recorder.payloads("llm:stream_block_delta") if data["request_id"] == one)
        for one in ids
    }
    value = ["".join(_block_texts(response)) for response in responses]
    assert len(ids) == 8
    assert sorted(shown.values()) == sorted(value)


def _block_texts(response: ChatResponse) -> list[str]:
    thoughts = [block.thinking for block in response.content if isinstance(block, ThinkingBlock)]
    return [*thoughts, *(block.text for block in response.content if isinstance(block, TextBlock))]


def _strings(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for value in value.values() for text in _strings(value)]
        case list():
            return [text for value in value for text in _strings(value)]
        case _:
            return []
