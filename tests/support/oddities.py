"""Unusual but readable replies, for the replay server."""

import json
from collections.abc import Mapping
from typing import Any, Final

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.replay import Reply
from tests.support.speaker import ANSWERS, Answer
from tests.support.speech import ANSWER_DELTAS
from tests.support.wire import (
    COMPLETED,
    EVENTS,
    MESSAGE,
    OPENING,
    REASONING,
    event,
    item_done,
    message_item,
    reasoning_item,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

BODY: Final = b"".join(EVENTS)
GARBAGE: Final = b"event: response.output_text.delta\ndata: {oh\n\n\xff\xfe\x00: \r\n\r\ndata: more\n\n"
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
AT_9: Final = {"output_index": 9}
RENUMBERED: Final = BODY.replace(b'"output_index": 1', b'"output_index": 40').replace(
    b'"output_index": 0', b'"output_index": 7'
)
ONE_MB: Final = "x" * 1_000_000


FLOATS: Final[Mapping[str, Any]] = {
    "id": 17,
    "usage": {"input_tokens": 9.0, "output_tokens": "8", "input_tokens_details": {"cached_tokens": []}},
}
"""Odd values of fields that every reply has."""

NULL_LOGPROBS: Final = b'"logprobs":{"content":[{"token":"a","logprob":null}],"tokens":["a"],"token_logprobs":null}'

TOWER: Final = "🗼".encode()
HALVES: Final = (rb"Paris \ud83d", rb"\uddfc.")
"""The last delta of the answer as a gateway sends it that cuts strings in UTF-16, as JavaScript does."""

SUMMARY: Final = {"summary": [{"type": "summary_text", "text": "Cities."}]}
SUMMARISED: Final = response({**reasoning_item(), **SUMMARY}, message_item())


def twice(*events: bytes) -> list[bytes]:
    return [each for each in events for _ in range(2)]


def _half(text: bytes) -> bytes:
    """The event of a text delta, as raw JSON."""
    return text_delta("#").replace(b"#", text)


_SUMMARY_DELTA: Final = event("response.reasoning_summary_text.delta", delta="Cities.", output_index=0, summary_index=0)


_ODD_RESPONSES: Final[Mapping[str, Reply]] = {
    "text of an item never opened": sse_reply(*OPENING, *REASONING, *map(text_delta, ANSWER_DELTAS), COMPLETED),
    "items never opened nor closed": sse_reply(*OPENING, *REASONING[1:-1], *MESSAGE[1:-1], COMPLETED),
    "only the terminal event": sse_reply(COMPLETED),
    "indices with gaps": sse_reply(RENUMBERED),
    "opened twice and closed twice": sse_reply(
        *OPENING, *twice(REASONING[0]), *REASONING[1:-1], *twice(REASONING[-1]),
        *twice(MESSAGE[0]), *MESSAGE[1:-1], *twice(MESSAGE[-1]), COMPLETED,
    ),
    "closed and then opened": sse_reply(
        *OPENING, REASONING[-1], *REASONING[:-1], *MESSAGE, COMPLETED
    ),
    "an end event for an unknown item": sse_reply(
        *OPENING, *REASONING, *MESSAGE, event("response.output_text.done", text="?", **AT_9), COMPLETED
    ),
    "no event lines": sse_reply(*(each.partition(b"\n")[2] for each in EVENTS), b"data: [DONE]\n\n"),
    "counts that are not integers, and an id that is one": sse_reply(
        *EVENTS[:-1], event("response.completed", response=response(reasoning_item(), message_item(), **FLOATS))
    ),
    "the same, unstreamed": whole_reply(json.dumps(response(reasoning_item(), message_item(), **FLOATS)).encode()),
    "an emoji in two deltas": sse_reply(
        *(delta for each in EVENTS for delta in (map(_half, HALVES) if each == EVENTS[-3] else [each]))
    ),
    "an emoji in two deltas of two reads": sse_reply(
        *(delta for each in EVENTS for delta in (map(_half, HALVES) if each == EVENTS[-3] else [each])), piece=1
    ),
    "a summary beside the thought": sse_reply(
        *EVENTS[:-1], event("response.completed", response=SUMMARISED)
    ),
    "a summary after the thought": sse_reply(
        *OPENING, *REASONING[:-1], _SUMMARY_DELTA, item_done({**reasoning_item(), **SUMMARY}, 0), *MESSAGE,
        event("response.completed", response=SUMMARISED),
    ),
    "a summary beside the thought, unstreamed": whole_reply(json.dumps(SUMMARISED).encode()),
}  # fmt: skip


def _oddities(answer: Answer) -> dict[str, Reply]:
    """What may be odd on every endpoint."""
    events, body = answer.stream.events, answer.sse().body
    unnamed = [b"data: " + each.partition(b"data: ")[2] for each in events]
    unread = answer.body.replace(b"{", rb'{"metadata": "\ud83d", ', 1)
    return {
        "garbage after the terminal event": sse_reply(*events, GARBAGE),
        "garbage in a later read": sse_reply(*events, GARBAGE, piece=len(body), delay_between_pieces=0.05),
        "cut after the terminal event": answer.sse(ending="cut"),
        "reset after the terminal event": answer.sse(ending="reset"),
        "silence after the terminal event": answer.sse(ending="stall"),
        "endless pings after the terminal event": answer.sse(ending="stall", drip=PING),
        "no blank line after the terminal event": sse_reply(body.rstrip(b"\n")),
        "the terminal event twice": sse_reply(*events, events[-1]),
        "a failure after the terminal event": sse_reply(*events, *answer.speaker.error({"message": "too late"})),
        "comments, pings and unknown events between": sse_reply(
            *(piece for each in events for piece in (b": hello\n\n", PING, event("response.queued", **AT_9), each))
        ),
        "CRLF line ends": sse_reply(body.replace(b"\n", b"\r\n"), piece=7),
        "byte by byte": answer.sse(piece=1),
        "an emoji as a pair of escapes": sse_reply(body.replace(TOWER, rb"\ud83d\uddfc")),
        "half an emoji in a field that nobody reads": whole_reply(unread),
        "every event is called message": sse_reply(
            *(b"event: message\n" + each for each in unnamed), b"event: message\ndata: [DONE]\n\n"
        ),
        "some events are called message": sse_reply(
            *(b"event:message\n" + unnamed[n] if n % 2 else each for n, each in enumerate(events))
        ),
        "an unstreamed reply to a stream request": answer.whole(),
        "a stream reply to an unstreamed request": answer.sse(),
    }  # fmt: skip


def _odd_choices(answer: Answer) -> dict[str, Reply]:
    """What may be odd on the endpoints whose replies are choices."""
    *unended, last, usage, done = answer.stream.events
    no_choices = usage.replace(b'"usage":', b'"ignored":')
    in_last = last.replace(b"}\n\n", b"," + usage[usage.index(b'"usage":') : usage.index(b',"system_')] + b"}\n\n")
    return {
        "no done event": sse_reply(*unended, last, usage),
        "no usage event": sse_reply(*unended, last, done),
        "usage beside the finish reason": sse_reply(*unended, in_last, done),
        "events without choices between": sse_reply(
            *(piece for each in unended for piece in (no_choices, each)), last, usage, done
        ),
        "the text in the event with the finish reason": _with_last_text(answer, *answer.stream.ending),
        "an empty finish reason until the reply ends": _changed(answer, b'"finish_reason":null', b'"finish_reason":""'),
        "a choice without a number": _changed(answer, b'"index":0,', b'"index":null,'),
        "a list as log probabilities": _changed(answer, b'"logprobs":null', b'"logprobs":[]'),
        "log probabilities that are null": _changed(answer, b'"logprobs":null', NULL_LOGPROBS),
        "a stop reason of no known type": _changed(answer, b'"stop_reason":null', b'"stop_reason":{"matched":12.5}'),
    }


def _changed(answer: Answer, old: bytes, new: bytes) -> Reply:
    """The answer with something else in each of its events."""
    events = answer.stream.events
    assert any(old in each for each in events)
    return sse_reply(*(each.replace(old, new) for each in events))


def _with_last_text(answer: Answer, last: bytes, *rest: bytes) -> Reply:
    """The last delta's text in the event with the finish reason, as vLLM has it at times."""
    text = ANSWER_DELTAS[-1]
    ends = last.replace(b'"delta":{}', f'"delta":{{"content":"{text}"}}'.encode())
    ends = ends.replace(b'"text":""', f'"text":"{text}"'.encode())
    return sse_reply(*answer.stream.before_last_delta, ends, *rest)


def _of(answer: Answer) -> dict[str, Reply]:
    return _oddities(answer) | (dict(_ODD_RESPONSES) if answer.endpoint == "responses" else _odd_choices(answer))


ODDITIES: Final[Mapping[EndpointName, Mapping[str, Reply]]] = {name: _of(answer) for name, answer in ANSWERS.items()}
"""By the endpoint that sends them."""
