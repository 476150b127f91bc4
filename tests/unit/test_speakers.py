"""The speakers of the tests say what real vLLM says: chunk for chunk, but for ids and times."""

import json
from dataclasses import replace
from typing import Any

import pytest

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.recordings import load_recording
from tests.support.rounds import to_frames
from tests.support.speaker import SPEAKERS, spoken
from tests.support.speech import Speech, call_part, reasoning_part, text_part

QWEN = "chat/tiny-qwen3"
VARYING = {"id", "created", "token_ids", "prompt_token_ids"}
"""What differs between two requests, or is there only on demand."""

TOOL = Speech(
    (
        reasoning_part("\n", "I", " should", " look", " up", " the", " weather", " in", " Paris", ".\n"),
        text_part("\n\n"),
        call_part("get_weather", '{"', "city", '":', ' "', "Paris", '"}'),
    ),
    input_tokens=196,
    output_tokens=34,
    cached_tokens=128,
    reasoning_tokens=10,
)


TOOL_WHOLE = replace(TOOL, parts=(TOOL.parts[0], TOOL.parts[2]))
"""The same unstreamed: the parser drops the text between the reasoning and the call."""
COUNTED = "\n\n" + ", ".join(map(str, range(1, 26))) + ", "
COUNT_CUT = Speech(
    (reasoning_part("\nI will count.\n"), text_part(COUNTED, "2")),
    "length",
    20,
    100,
    cached_tokens=0,
    reasoning_tokens=5,
)
CALLS_CUT = Speech(
    (
        reasoning_part("\nI need the weather in Paris and London.\n"),
        text_part("\n\n"),
        call_part("get_weather", '{"city": "Paris"}'),
        call_part("get_weather", '{"city": "'),
    ),
    "length",
    input_tokens=197,
    output_tokens=50,
    cached_tokens=128,
    reasoning_tokens=10,
)
CALL_CUT = replace(TOOL, parts=(*TOOL.parts[:2], call_part("get_weather", '{"')), ending="length", output_tokens=26)
COMPLETION = Speech(
    (text_part(" Paris", "0", "9", " is", " Paris", "."),), input_tokens=5, output_tokens=7, cached_tokens=0
)


@pytest.mark.parametrize(
    ("endpoint", "case", "speech"),
    [("chat", "chat_stream_usage_tool_stream", TOOL), ("completions", "comp_text_usage_stream", COMPLETION)],
    ids=["chat", "completions"],
)
def test_a_spoken_stream_equals_a_recorded_one(endpoint: EndpointName, case: str, speech: Speech) -> None:
    recorded = load_recording(QWEN, case)

    assert events_of(spoken(SPEAKERS[endpoint], speech).body) == events_of(recorded.body)


@pytest.mark.parametrize(
    ("endpoint", "case", "speech"),
    [
        ("chat", "chat_tc_auto", replace(TOOL_WHOLE, input_tokens=252)),
        ("chat", "chat_cut_in_text", COUNT_CUT),
        ("chat", "chat_cut_in_tool_26", CALL_CUT),
        ("chat", "chat_cut_in_second_call_50", CALLS_CUT),
        ("completions", "via_completions_tool", replace(TOOL, reasoning_tokens=None)),
    ],
    ids=["chat", "chat, cut in the text", "chat, cut in the call", "chat, cut in the second call", "completions"],
)
def test_a_spoken_unstreamed_reply_equals_a_recorded_one(endpoint: EndpointName, case: str, speech: Speech) -> None:
    recorded = load_recording(QWEN, case)

    assert without_varying(SPEAKERS[endpoint].body(speech)) == without_varying(recorded.json)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_the_end_of_a_cut_stream_carries_its_last_piece(endpoint: EndpointName) -> None:
    recorded = choices_of(load_recording(QWEN, "chat_cut_in_text_stream").body)

    last = choices_of(spoken(SPEAKERS[endpoint], COUNT_CUT).body)[-1]

    assert recorded[-1]["delta"] == {"content": "2"}
    assert last.get("delta", last.get("text")) in ({"content": "2"}, "2")
    assert last["finish_reason"] == recorded[-1]["finish_reason"]


def test_a_completion_is_streamed_as_the_text_of_its_unstreamed_reply() -> None:
    recorded = choices_of(load_recording(QWEN, "via_completions_tool_stream").body)

    spoken_choices = choices_of(spoken(SPEAKERS["completions"], TOOL).body)

    assert joined(spoken_choices) == joined(recorded) == SPEAKERS["completions"].body(TOOL)["choices"][0]["text"]
    assert {tuple(choice) for choice in spoken_choices} == {tuple(choice) for choice in recorded}


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_spoken_error_equals_a_recorded_one(endpoint: EndpointName) -> None:
    recorded = events_of(load_recording(QWEN, "chat_logprobs_top21_stream").body)

    assert events_of(b"".join(SPEAKERS[endpoint].error(recorded[0]["error"]))) == recorded


def test_the_events_of_a_response_are_among_the_recorded_ones_with_fewer_fields() -> None:
    recorded: dict[str, set[str]] = {}
    for event in events_of(load_recording("tiny-qwen3", "r2_tool_stream").body):
        recorded.setdefault(event["type"], set()).update(event, ["id"])

    spoken_events = events_of(spoken(SPEAKERS["responses"], TOOL).body)

    assert [event["type"] for event in spoken_events if not set(event) <= recorded[event["type"]]] == []


def events_of(body: bytes) -> list[Any]:
    """The events of a stream without what varies; `[DONE]` as text."""
    return [
        frame.data.decode() if frame.data == b"[DONE]" else without_varying(json.loads(frame.data))
        for frame in to_frames([body])
    ]


def choices_of(body: bytes) -> list[dict[str, Any]]:
    """The choice of each chunk that has one."""
    return [event["choices"][0] for event in events_of(body) if event != "[DONE]" and event["choices"]]


def joined(choices: list[dict[str, Any]]) -> str:
    return "".join(choice["text"] for choice in choices)


def without_varying(value: Any) -> Any:
    match value:
        case dict():
            return {key: without_varying(inner) for key, inner in value.items() if key not in VARYING}
        case list():
            return [without_varying(inner) for inner in value]
        case _:
            return value
