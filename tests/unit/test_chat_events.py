"""Every dialect of a chat chunk becomes the same typed event; what is no chunk is an error or nothing."""

import json
from typing import Any

import msgspec
import pytest

from amplifier_module_provider_vllm._chat.events import (
    Chunk,
    Done,
    ErrorEvent,
    Event,
    WholeReply,
    decode_event,
    decode_reply,
    is_last,
    is_progress,
)
from amplifier_module_provider_vllm._chat.wire import CallDelta, TextDelta
from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._turn import TokenLogprob, TopLogprob
from amplifier_module_provider_vllm._wire.sse import Frame
from tests.support.chat_rounds import calls, chunk, piece, whole

PING = Frame(b"ping", b'{"type": "ping"}')


def decode(data: object) -> Event | None:
    return decode_event(Frame(b"", data if isinstance(data, bytes) else json.dumps(data).encode()))


def deltas(data: object) -> list[Any]:
    event = decode(data)
    assert isinstance(event, Chunk)
    return list(event.deltas)


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"role": "assistant", "content": ""}, []),
        ({}, []),
        ({"content": "Hi"}, [TextDelta("text", "Hi")]),
        ({"content": [{"type": "text", "text": "Hi"}, {"type": "image_url"}]}, ["Hi", "[image_url]"]),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, [TextDelta("refusal", "No.")]),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"text": "Hi"}]},
            [TextDelta("reasoning", "Hm"), TextDelta("text", "Hi")],
        ),
        ({"reasoning": "Hm", "content": "Hi"}, [TextDelta("reasoning", "Hm"), TextDelta("text", "Hi")]),
        ({"reasoning": None, "reasoning_content": "Hm", "content": None}, [TextDelta("reasoning", "Hm")]),
        ({"reasoning": "Hm", "reasoning_content": "Hm"}, [TextDelta("reasoning", "Hm")]),
        ({"reasoning": "Hm", "reasoning_details": [{"text": "Hm"}]}, [TextDelta("reasoning", "Hm")]),
        (
            {"reasoning_details": [
                {"type": "reasoning.text", "text": "Hm"},
                {"type": "reasoning.encrypted", "data": "gAAAA"},
                {"type": "reasoning.summary", "summary": "So"},
            ]},
            [TextDelta("details", "Hm"), TextDelta("details", "So")],
        ),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": "x"}]}, [TextDelta("details", "Hm")]),
        ({"refusal": "No."}, [TextDelta("refusal", "No.")]),
        ({"tool_calls": [piece("", "f", index=1, id="c")]}, [CallDelta(1, "c", "f", "")]),
        ({"tool_calls": [piece({"a": "ü"}, "f")]}, [CallDelta(None, None, "f", '{"a":"ü"}')]),
        ({"tool_calls": [{"index": 0, "id": 7}]}, [CallDelta(0, "7", "", "")]),
        ({"tool_calls": [piece("{", index=0, id="")]}, [CallDelta(0, None, "", "{")]),
        ({"tool_calls": None, "function_call": {"name": "f", "arguments": "{}"}}, [CallDelta(0, None, "f", "{}")]),
    ],
    ids=str,
)  # fmt: skip
def test_a_delta_of_any_dialect_is_read(delta: object, expected: list[object]) -> None:
    assert deltas(chunk(delta)) == [TextDelta("text", one) if isinstance(one, str) else one for one in expected]


def test_a_chunk_has_what_it_tells_of_the_reply() -> None:
    top = [{"token": "Yo", "logprob": -1, "bytes": None}]
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": top}
    data = chunk({}, "stop", token_ids=[7], logprobs={"content": [entry]}, matched_stop=5)
    data |= {"usage": {"prompt_tokens": 1}, "prompt_token_ids": [1, 2], "timings": {}}

    assert decode(data) == Chunk(
        deltas=[],
        finish_reason="stop",
        sampled=[7],
        logprobs=[TokenLogprob("Hi", -0.5, [72, 105], (TopLogprob("Yo", -1.0),))],
        usage={"prompt_tokens": 1},
        prompt=[1, 2],
        response_id="chatcmpl-1",
        model="tiny",
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[DONE]", Done()),
        ({"type": "ping"}, None),
        ({}, None),
        ({"choices": [], "usage": {"completion_tokens": 1}}, Chunk(usage={"completion_tokens": 1})),
        ({"choices": None, "usage": {"completion_tokens": 1}}, Chunk(usage={"completion_tokens": 1})),
        ({"choices": [{"index": 0, "finish_reason": "stop"}]}, Chunk(finish_reason="stop")),
        ({"choices": [{"index": 1, "delta": {"content": "other"}}]}, Chunk()),
        (
            {"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]},
            Chunk([TextDelta("text", "a")]),
        ),
        (
            {"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}},
            ErrorEvent(Failure("no", 400, "BadRequestError")),
        ),
        (
            {"error": {"message": "litellm.RateLimitError", "type": "throttling_error", "code": "429"}},
            ErrorEvent(Failure("litellm.RateLimitError", 429, "429 throttling_error")),
        ),
        ({"error": "overloaded"}, ErrorEvent(Failure("overloaded", None, "overloaded"))),
        (
            chunk({"content": ""}, "error") | {"error": {"code": 502, "message": "lost"}},
            ErrorEvent(Failure("lost", 502)),
        ),
        (chunk({}, "error", error={"code": 502, "message": "lost"}), ErrorEvent(Failure("lost", 502))),
        (
            {"object": "error", "message": "no", "type": "BadRequestError", "code": 400},
            ErrorEvent(Failure("no", 400, "BadRequestError")),
        ),
        (chunk({"content": "a"}) | {"error": None}, Chunk([TextDelta("text", "a")], None, None, None, None, None, None,
                                                          "chatcmpl-1", "tiny")),
    ],
    ids=str,
)  # fmt: skip
def test_a_frame_is_a_chunk_the_end_an_error_or_nothing(data: object, expected: Event | None) -> None:
    assert decode(data) == expected


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"a"', b"\xff", b'{"choices": {}}', b'{"choices": [7]}'])
def test_invalid_data_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data)


def test_a_chunk_with_half_a_character_is_marked() -> None:
    data = b'{"id": "a\\ud83d", "choices": [{"delta": {"content": "\\ud83d", "reasoning": "\\ude00"}}]}'

    assert decode(data) == Chunk(
        [TextDelta("reasoning", "\ude00"), TextDelta("text", "\ud83d")], response_id="a\ufffd", is_split=True
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (whole({"reasoning": "Hm", "content": "Hi"}), [TextDelta("reasoning", "Hm"), TextDelta("text", "Hi")]),
        (whole({"content": None, "tool_calls": None}), []),
        (
            whole({"tool_calls": [piece("{}", "f", id="a"), piece("{}", "f", id="a")]}),
            [CallDelta(0, "a", "f", "{}"), CallDelta(1, "a", "f", "{}")],
        ),
        (whole({"content": "\ud83d\ude00 \ud83d"}), [TextDelta("text", "😀 \ufffd")]),
        (b"{}", []),
    ],
)
def test_an_unstreamed_reply_is_one_last_event(body: bytes, expected: list[object]) -> None:
    event = decode_reply(body)

    assert isinstance(event, WholeReply)
    assert (list(event.chunk.deltas), event.raw, is_last(event)) == (expected, body, True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "no", "code": 400}}', Failure("no", 400)),
        (b'{"error": {"message": "no \\ud83d", "code": 400}}', Failure("no \ufffd", 400)),
        (b'{"choices": [{"error": {"message": "lost", "code": 502}}]}', Failure("lost", 502)),
        (b'{"object": "error", "message": "no", "code": 400}', Failure("no", 400)),
        (b'{"detail": "no"}', Failure("no")),
    ],
)
def test_an_error_in_place_of_an_unstreamed_reply_is_an_error(body: bytes, expected: Failure) -> None:
    assert decode_reply(body) == ErrorEvent(expected)


def test_only_done_is_the_last_event_of_a_stream() -> None:
    assert is_last(Done())
    assert not is_last(Chunk(finish_reason="stop"))


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (PING, False),
        (Frame(b"", b""), False),
        (Frame(b"", b'{"status": "processing"}'), False),
        (Frame(b"", json.dumps(calls(piece("{"))).encode()), True),
        (Frame(b"", json.dumps(chunk()).encode()[:120]), True),
        (Frame(b"", b'{"id": "' + b"x" * 300), True),
        (Frame(b"", b'{"error": {"message": "no"}}'), True),
        (Frame(b"", b"[DONE]"), True),
    ],
    ids=str,
)
def test_a_chunk_is_progress_and_a_ping_is_not(frame: Frame, expected: bool) -> None:
    assert is_progress(frame) is expected
