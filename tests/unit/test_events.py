"""Events of a Responses stream are decoded in all known formats; others are skipped."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._responses.events import (
    ErrorEvent,
    Event,
    ItemAdded,
    ItemDone,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TerminalEvent,
    TextDelta,
    decode_event,
    decode_reply,
)
from amplifier_module_provider_vllm._responses.items import (
    WireItem,
    WirePart,
    to_items,
    to_turn,
)
from amplifier_module_provider_vllm._turn import (
    FunctionCall,
    HostedCall,
    Item,
    OtherItem,
    Reasoning,
    Status,
    Text,
    TokenUsage,
)
from amplifier_module_provider_vllm._wire.sse import Frame
from tests.support.recordings import load_recording
from tests.support.rounds import MODELS, events_of, streams_of, to_frames

DELTA = {"item_id": "x", "output_index": 2, "content_index": 1, "sequence_number": 9, "logprobs": []}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
CALL_ITEM = msgspec.convert(CALL, WireItem)


def wire(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def terminal_event(**response: Any) -> TerminalEvent:
    event = decode_event(Frame(b"response.completed", wire(type="response.completed", response=response)))
    assert isinstance(event, TerminalEvent)
    return event


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("response.output_text.delta", DELTA | {"delta": "Pa"}, TextDelta("Pa", 2, 1)),
        ("response.output_text.delta", {"delta": "Pa"}, TextDelta("Pa", 0, 0)),
        ("response.reasoning_text.delta", DELTA | {"delta": "Hm"}, ReasoningDelta("Hm", 2, 1)),
        ("response.reasoning.delta", DELTA | {"delta": "Hm"}, ReasoningDelta("Hm", 2, 1)),
        ("response.reasoning_summary_text.delta", {"delta": "So", "summary_index": 3}, SummaryDelta("So", 0, 3)),
        ("response.refusal.delta", DELTA | {"delta": "No"}, RefusalDelta("No", 2, 1)),
        ("response.output_item.added", {"item": CALL}, ItemAdded(CALL_ITEM, 0)),
        ("response.output_item.done", {"item": CALL, "output_index": 4}, ItemDone(CALL_ITEM, 4)),
        ("error", {"message": "engine dead", "code": "x"}, ErrorEvent(Failure("engine dead", kind="x"))),
        ("error", {"error": {"message": "dead", "code": 500}}, ErrorEvent(Failure("dead", 500))),
        ("error", {"error": "dead"}, ErrorEvent(Failure("dead", kind="dead"))),
        ("response.created", {"response": {}}, None),
        ("response.content_part.added", {"part": {"type": "output_text"}}, None),
        ("response.function_call_arguments.delta", DELTA | {"delta": "{"}, None),
        ("response.mcp_call.in_progress", {}, None),
        ("keepalive", {}, None),
    ],
    ids=[
        "text", "text without indices", "reasoning", "reasoning of OpenResponses", "summary", "refusal", "item added",
        "item done", "error", "error of the chat endpoint", "error that is a string", "created", "part added",
        "arguments", "mcp", "unknown",
    ],
)  # fmt: skip
@pytest.mark.parametrize("named", [True, False], ids=["named by the event line", "named by its data"])
def test_every_known_event_is_decoded(name: str, fields: dict[str, Any], expected: Event | None, named: bool) -> None:
    data = wire(type=name, **fields)

    event = decode_event(Frame(name.encode() if named else b"", data))

    assert event == expected


def test_an_error_of_the_chat_endpoint_needs_no_event_name() -> None:
    event = decode_event(Frame(b"", wire(error={"message": "EngineCore encountered an issue.", "code": 500})))

    assert event == ErrorEvent(Failure("EngineCore encountered an issue.", 500))


@pytest.mark.parametrize("data", [b"[DONE]", b"{}", b'{"error":null}', b'{"object":"chunk"}'])
def test_data_without_a_name_is_skipped(data: bytes) -> None:
    assert decode_event(Frame(b"", data)) is None


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"response.output_text.delta", b'{"delta":"Pa'),
        (b"response.output_text.delta", b'{"delta":null}'),
        (b"response.output_item.added", b'{"item":5}'),
        (b"response.output_item.done", b'{"item":{"type":"message","content":[{"text":1}]}}'),
        (b"response.completed", b'{"response":{"output":[{"type":"reasoning","summary":"none"}]}}'),
        (b"response.completed", b"{}"),
        (b"", b"not JSON"),
        (b"", b"5"),
    ],
)
def test_invalid_event_data_is_a_decode_error(name: bytes, data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(Frame(name, data))


@given(st.sampled_from([b"response.output_item.done", b"response.completed", b"error", b""]), st.text(max_size=30))
def test_any_data_is_an_event_or_a_decode_error(name: bytes, text: str) -> None:
    try:
        decode_event(Frame(name, text.encode()))
    except msgspec.DecodeError:
        return


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {"type": "message", "content": [{"text": "Hi"}, {"type": "refusal", "refusal": "No"}]},
            [("content.0", Text("Hi")), ("content.1", Text("No", refusal=True))],
        ),
        ({"type": "message", "content": "Hi"}, [("content.0", Text("Hi"))]),
        ({"type": "message", "content": None}, []),
        ({"role": "assistant", "content": "Hi"}, [("content.0", Text("Hi"))]),
        (
            {"type": "message", "content": [{"type": "output_audio"}]},
            [("content.0", OtherItem("output_audio", "[output_audio]"))],
        ),
        (
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "So"}], "content": None},
            [("reasoning.0", Reasoning("So"))],
        ),
        (
            {"type": "reasoning", "summary": [{"text": "So"}], "content": [{"text": "Hm"}]},
            [("reasoning.0", Reasoning("Hm"))],
        ),
        (
            {"type": "reasoning", "summary": [{"text": "So"}], "content": [{"text": ""}]},
            [("reasoning.0", Reasoning("So"))],
        ),
        (
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
            [("reasoning.0", Reasoning("Hm"))],
        ),
        ({"type": "reasoning", "summary": None, "content": "Hm"}, [("reasoning.0", Reasoning("Hm"))]),
        (CALL, [("call", FunctionCall("call_1", "get_weather", "{}"))]),
        (CALL | {"call_id": 1}, [("call", FunctionCall("1", "get_weather", "{}"))]),
        (
            CALL | {"arguments": {"city": "Zürich"}},
            [("call", FunctionCall("call_1", "get_weather", '{"city":"Zürich"}'))],
        ),
        (
            {"type": "custom_tool_call", "call_id": "call_1", "name": "sql", "input": "SELECT 'é'"},
            [("call", FunctionCall("call_1", "sql", '{"input":"SELECT \'é\'"}'))],
        ),
        (
            CALL | {"type": "mcp_call", "call_id": None},
            [("call", FunctionCall("fc_1", "get_weather", "{}", unrecognised=True))],
        ),
        (
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "Paris"}},
            [("call", HostedCall("ws_1", None, "web_search", '{"query": "Paris"}'))],
        ),
        (
            {"type": "code_interpreter_call", "id": "ci_1", "code": "1 + 1", "outputs": None},
            [("call", HostedCall("ci_1", None, "code_interpreter", '{"code": "1 + 1"}'))],
        ),
        ({"type": "future", "content": 5}, [("other", OtherItem("future", '[future: {"content":5}]'))]),
    ],
    ids=[
        "message and refusal", "message that is a string", "message of nothing", "message without a type",
        "unknown part", "summary", "summary and content", "summary and empty content", "reasoning",
        "reasoning that is a string", "call", "call with a number as its id", "call with an object",
        "call of a custom tool", "mcp call", "web search", "code interpreter", "unknown kind",
    ],
)  # fmt: skip
def test_every_item_is_converted_or_reported(item: dict[str, Any], expected: list[tuple[str, Item]]) -> None:
    output = terminal_event(output=[item]).output

    assert [block for kind in output for block in to_items(kind)] == expected


@pytest.mark.parametrize(
    ("event", "response", "status"),
    [
        ("completed", {"status": "completed"}, Status.COMPLETED),
        ("completed", {"status": "incomplete", "incomplete_details": None}, Status.INCOMPLETE),
        ("completed", {"status": "completed", "incomplete_details": {"reason": "content_filter"}}, Status.INCOMPLETE),
        ("incomplete", {"status": "incomplete"}, Status.INCOMPLETE),
        ("incomplete", {}, Status.INCOMPLETE),
        ("failed", {"status": "failed", "error": {"message": "engine dead"}}, Status.FAILED),
        ("failed", {}, Status.FAILED),
        ("completed", {"status": "completed", "error": {"code": "server_error"}}, Status.FAILED),
        ("completed", {"status": "cancelled"}, Status.FAILED),
        ("completed", {}, Status.COMPLETED),
    ],
)  # fmt: skip
def test_the_end_of_a_reply_is_decoded(event: str, response: dict[str, Any], status: Status) -> None:
    end = decode_event(Frame(f"response.{event}".encode(), wire(type=f"response.{event}", response=response)))

    assert isinstance(end, TerminalEvent)
    assert to_turn(end.response, end.raw).status is status


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "input_tokens": 9,
                "output_tokens": 5,
                "total_tokens": 14,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "cached_tokens_per_turn": [4]},
                "output_tokens_details": {"reasoning_tokens": 3, "tool_output_tokens": 0},
            },
            TokenUsage(9, 5, reasoning_tokens=3, cached_tokens=4, cache_write_tokens=2),
        ),
        ({"input_tokens": 9, "output_tokens": 5}, TokenUsage(9, 5)),
        ({"input_tokens": 9, "output_tokens": 5, "input_tokens_details": None}, TokenUsage(9, 5)),
        ({"input_tokens": 9, "output_tokens": None}, None),
        ({"input_tokens": 9.0, "output_tokens": "5"}, TokenUsage(9, 5)),
        ({"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 1.5}}, TokenUsage(9, 5)),
        ({"input_tokens": 9, "output_tokens": 5, "input_tokens_details": "none"}, TokenUsage(9, 5)),
        ({"input_tokens": 9, "output_tokens": -5}, None),
        ({"input_tokens": 9, "output_tokens": "many"}, None),
        ({}, None),
        (None, None),
        ("none", None),
    ],
    ids=[
        "all", "no details", "null details", "null output", "float and string", "half a token", "word for details",
        "negative", "word", "empty", "null", "word for all",
    ],
)  # fmt: skip
def test_usage_is_read_and_missing_usage_is_none(usage: dict[str, Any] | None, expected: TokenUsage | None) -> None:
    assert to_turn(terminal_event(usage=usage).response, b"").usage == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (wire(error={"message": "harmony", "code": 500}), ErrorEvent(Failure("harmony", 500))),
        (wire(error="Unauthorized"), ErrorEvent(Failure("Unauthorized", kind="Unauthorized"))),
    ],
)
def test_an_error_with_status_200_is_an_error(body: bytes, expected: Event) -> None:
    assert decode_reply(body) == expected


@pytest.mark.parametrize("group", MODELS)
def test_a_whole_reply_is_one_event(group: str) -> None:
    reply = load_recording(group, "r1_answer")

    event = decode_reply(reply.body)

    assert isinstance(event, TerminalEvent)
    assert (event.response.id, event.response.status) == (reply.json["id"], "completed")
    assert [item.type for item in event.output] == ["reasoning", "message"]


def test_a_part_may_have_only_its_text() -> None:
    assert to_items(WireItem(content=[WirePart(text="Hi")])) == [("content.0", Text("Hi"))]


@pytest.mark.parametrize(("group", "case"), streams_of(*MODELS, pattern="*_stream"))
def test_every_recorded_event_decodes_the_same_without_its_event_line(group: str, case: str) -> None:
    frames = to_frames([load_recording(group, case).body])

    unnamed = [decode_event(Frame(b"", frame.data)) for frame in frames]

    assert [event for event in unnamed if event is not None] == events_of(load_recording(group, case))
