"""The stream of a real server reaches the session unchanged, through the real SDK, for any split."""

import json
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse, Message, ToolCallBlock

from amplifier_module_provider_vllm._response_handling import to_response
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import Recording, cases, load_recording
from tests.support.replay import ReplayServer, Reply, reply
from tests.support.rounds import MODELS, streams_of, to_frames, turn_of

QUESTION = ChatRequest(messages=[Message(role="user", content="What is the weather in Paris?")])
QUIET = QUESTION.model_copy(update={"metadata": {"stream": False}})

STREAMS = [(group, case) for group, case in streams_of(*MODELS) if turn_of(load_recording(group, case)).items]
WHOLE = [(group, case) for group in MODELS for case in cases(group, "r[0-9]*") if not case.endswith("_stream")]
ANSWERED = [(group, case) for group, case in WHOLE if turn_of(load_recording(group, case)).items]
UNCUT = [(group, case) for group, case in STREAMS if "cut_in_call" not in case]


async def run_call(answer: Recording | Reply, recorder: EventRecorder | None = None, **config: Any) -> ChatResponse:
    """The response of a call with this answer; its cap is the caller's, so that it is not continued."""
    async with ReplayServer(answer) as server, provider_at(server.base_url, recorder, **config) as provider:
        return await provider.complete(QUESTION, max_output_tokens=400)


def last_response(recording: Recording) -> dict[str, Any]:
    """The response object of the server's terminal event."""
    last: dict[str, Any] = json.loads(to_frames([recording.body])[-1].data)["response"]
    return last


@pytest.mark.parametrize(("group", "case"), STREAMS)
async def test_a_streamed_reply_does_not_depend_on_the_chunk_size(group: str, case: str) -> None:
    recording = load_recording(group, case)
    deliveries = [reply(recording, piece=piece) for piece in (None, 1021)]

    async with ReplayServer(*deliveries) as server, provider_at(server.base_url) as provider:
        responses = [await provider.complete(QUESTION, max_output_tokens=400) for _ in deliveries]

    assert responses == [to_response(turn_of(recording), [], None)] * 2
    assert_same_usage_and_calls(responses[0], last_response(recording))


@pytest.mark.parametrize("case", ["r1_answer_stream", "r2_tool_stream"])
@pytest.mark.parametrize("group", MODELS)
async def test_a_reply_can_arrive_byte_by_byte(group: str, case: str) -> None:
    recording = load_recording(group, case)

    response = await run_call(reply(recording, piece=1))

    assert response == to_response(turn_of(recording), [], None)


@pytest.mark.parametrize(("group", "case"), ANSWERED)
async def test_an_unstreamed_reply_is_converted_like_its_recording(group: str, case: str) -> None:
    recording, recorder = load_recording(group, case), EventRecorder()

    async with ReplayServer(recording) as server, provider_at(server.base_url, recorder) as provider:
        response = await provider.complete(QUIET, max_output_tokens=400)

    assert response == to_response(turn_of(recording), [], None)
    assert recorder.names == ["llm:request", "llm:response"]
    assert server.request_bodies[0]["stream"] is False


@pytest.mark.parametrize(("group", "case"), UNCUT)
async def test_events_follow_the_contract_order_with_the_indices_of_the_blocks(group: str, case: str) -> None:
    recorder = EventRecorder()

    response = await run_call(reply(load_recording(group, case), piece=700), recorder)

    shown: dict[int, str] = {}
    for data in recorder.payloads("llm:stream_block_delta"):
        shown[data["block_index"]] = shown.get(data["block_index"], "") + data["text"]
    kinds = {"text": "text", "thinking": "thinking", "tool_call": "tool_use"}
    blocks = list(enumerate(response.content))
    order = [(kind, index) for kind, index, _, _ in recorder.blocks() if kind != "delta"]
    assert recorder.names[0] == "llm:request"
    assert recorder.names[-1] == "llm:response"
    assert order == [(kind, index) for index, _ in blocks for kind in ("start", "end")]
    assert shown == {index: _text(block) for index, block in blocks if not isinstance(block, ToolCallBlock)}
    assert {(index, kind) for _, index, kind, _ in recorder.blocks()} == {
        (index, kinds[block.type]) for index, block in blocks
    }


async def test_every_event_of_a_call_carries_its_request_id() -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(*[load_recording("tiny-qwen3", "r2_tool_stream")] * 2) as server,
        provider_at(server.base_url, recorder) as provider,
    ):
        for _ in range(2):
            await provider.complete(QUESTION)

    ids = [event.data["request_id"] for event in recorder.events]
    starts = [place for place, name in enumerate(recorder.names) if name == "llm:request"]
    assert {len(set(ids[: starts[1]])), len(set(ids[starts[1] :]))} == {1}
    assert ids[0] != ids[-1]


async def test_deltas_are_counted_within_their_block_and_calls_have_a_name_and_no_deltas() -> None:
    recorder = EventRecorder()

    await run_call(reply(load_recording("tiny-qwen3", "r2_tool_stream"), piece=400), recorder)

    deltas = recorder.payloads("llm:stream_block_delta")
    starts = recorder.payloads("llm:stream_block_start")
    assert deltas
    assert [data["sequence"] for data in deltas] == list(range(len(deltas)))
    assert {data["block_type"] for data in deltas} == {"thinking"}
    assert [(data["block_type"], data.get("name")) for data in starts] == [
        ("thinking", None),
        ("tool_use", "get_weather"),
    ]


async def test_deltas_of_one_read_are_emitted_as_one_event() -> None:
    recorder = EventRecorder()

    await run_call(load_recording("tiny-qwen3", "r5_long_whole_stream"), recorder)

    tokens = load_recording("tiny-qwen3", "r5_long_whole_stream").body.count(b"output_text.delta")
    assert tokens > 300
    assert len(recorder.payloads("llm:stream_block_delta")) < tokens / 4


async def test_an_unstreamed_reply_to_a_stream_request_emits_stream_events() -> None:
    whole, recorder = load_recording("tiny-qwen3", "r2_tool"), EventRecorder()

    response = await run_call(whole, recorder)

    assert response == to_response(turn_of(whole), [], None)
    assert [(kind, index, type_) for kind, index, type_, _ in recorder.blocks()] == [
        ("start", 0, "thinking"),
        ("delta", 0, "thinking"),
        ("end", 0, "thinking"),
        ("start", 1, "tool_use"),
        ("end", 1, "tool_use"),
    ]


@pytest.mark.parametrize("headers", [{"content-type": "text/event-stream"}, {"content-type": "Text/Event-Stream"}])
async def test_gateway_streams_may_contain_pings_and_a_done_marker(headers: dict[str, str]) -> None:
    recording = load_recording("tiny-qwen3", "r1_answer_stream")
    body = b"\xef\xbb\xbf: ping\r\n\r\n" + recording.body.replace(b"\n", b"\r\n") + b"data: [DONE]\r\n\r\n"

    response = await run_call(Reply(200, headers, body, piece=97))

    assert response == to_response(turn_of(recording), [], None)


async def test_without_hooks_a_stream_gives_the_same_response() -> None:
    recording = load_recording("tiny-qwen3", "r2_tool_stream")

    assert await run_call(recording, None) == to_response(turn_of(recording), [], None)


async def test_no_stream_events_are_emitted_if_streaming_is_disabled() -> None:
    whole, recorder = load_recording("tiny-qwen3", "r1_answer"), EventRecorder()

    await run_call(whole, recorder, use_streaming="false")

    assert recorder.names == ["llm:request", "llm:response"]


def assert_same_usage_and_calls(response: ChatResponse, last: dict[str, Any]) -> None:
    """Usage and call ids equal those of the server's terminal event."""
    usage = last["usage"]
    assert response.usage is not None
    assert response.usage.model_dump(exclude_none=True) == {
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "reasoning_tokens": usage["output_tokens_details"]["reasoning_tokens"],
        "cache_read_tokens": usage["input_tokens_details"]["cached_tokens"],
    }
    ids = [item["call_id"] for item in last["output"] if item["type"] == "function_call"]
    assert [call.id for call in response.tool_calls or []] == (ids if last["status"] == "completed" else [])


def _text(block: Any) -> str:
    text: str = block.thinking if block.type == "thinking" else block.text
    return text
