"""The table of faults: how a server fails, and the error that a permanent failure must end in."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from amplifier_core.llm_errors import (
    AccessDeniedError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitError,
    StreamError,
)

from tests.support.fault import RETRIES, Fault, same_fault
from tests.support.recordings import load_broken_stream as load_broken_stream
from tests.support.refusals import STATUSES
from tests.support.replay import Ending, Reply, reply
from tests.support.wire import (
    ANSWER_TEXT,
    COMPLETED,
    EVENTS,
    LAST_DELTA_OFFSET,
    MESSAGE,
    OPENING,
    REASONING,
    REASONING_TEXT,
    REPLY_BODY,
    SSE,
    event,
    page,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

NEVER: Final = 3600.0
STALL_OFFSET: Final = LAST_DELTA_OFFSET
TEXT_SO_FAR: Final = REASONING_TEXT + ANSWER_TEXT.removesuffix("Paris 🗼.")
FULL_TEXT: Final = REASONING_TEXT + ANSWER_TEXT
HALF: Final = len(REPLY_BODY) // 2


def disconnect(cut_at: int, text: str, message: str, ending: Ending) -> Fault:
    """A connection that ends in the middle of the body."""
    half = whole_reply(cut_at=HALF, ending=ending)
    return Fault(sse_reply(*EVENTS, cut_at=cut_at, ending=ending), half, StreamError, message, text=text)


def clean_end(cut_at: int, text: str, message: str = "ended before the reply did") -> Fault:
    """A body that ends properly, but before the reply does."""
    fault = disconnect(cut_at, text, message, ending="clean")
    return replace(fault, whole_message="sent an invalid reply")


def stall(**shape: bytes) -> Fault:
    return Fault(
        sse_reply(*EVENTS, cut_at=STALL_OFFSET, ending="stall", **shape),
        whole_reply(cut_at=HALF, ending="stall", drip=b" " if shape else b""),
        LLMTimeoutError,
        "sent nothing for too long",
        text=TEXT_SO_FAR,
    )


def bad_reply(
    *events: bytes,
    body: bytes,
    error: type[LLMError],
    message: str,
    retries: int = RETRIES,
    status: int | None = None,
) -> Fault:
    """A stream that fails after the reasoning, and an invalid unstreamed body."""
    stream = sse_reply(*OPENING, *REASONING, *events)
    return Fault(stream, whole_reply(body), error, message, retries, status, text=REASONING_TEXT)


def error_event(error: object, expected: type[LLMError], message: str, means: int, **beside: object) -> Fault:
    """An error event that means a status, and the same error as an unstreamed reply with status 200."""
    body = _json({"error": error, **beside})
    retries = RETRIES if means >= 500 or means == 429 else 0
    return bad_reply(
        event("error", error=error, **beside), body=body, error=expected, message=message, retries=retries,
        status=means,
    )  # fmt: skip


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


FAILED = response(status="failed", error={"code": "server_error", "message": "the engine died"})
QUOTED = json.dumps(
    {"error": {"message": "maximum context length is 9 tokens", "type": "BadRequestError", "code": 400}}
)
IN_A_CHARACTER = b"".join(EVENTS).index("🗼".encode()) + 2
IN_AN_EVENT = STALL_OFFSET + 12

SILENT: Final = {
    "accepts and never answers": same_fault(
        sse_reply(delay_before_headers=NEVER), LLMTimeoutError, "sent nothing for too long"
    ),
    "headers and then silence": Fault(
        sse_reply(ending="stall"), whole_reply(b"", ending="stall"), LLMTimeoutError, "sent nothing for too long"
    ),
    "stall in the middle": stall(),
    "stall while comments drip in": stall(drip=b": keep-alive\n\n"),
    "stall while empty lines drip in": stall(drip=b"\n"),
    "stall while pings drip in": stall(drip=b'event: ping\ndata: {"type": "ping"}\n\n'),
    "stall while keep-alive events drip in": stall(drip=b'data: {"type": "keepalive"}\n\n'),
}  # fmt: skip
SILENCES: Mapping[str, Fault] = {
    name: replace(load_broken_stream, retries=1, config={"max_retries": 1, "stream_idle_timeout": 0.6})
    for name, load_broken_stream in SILENT.items()
}


CUTS: Mapping[str, Fault] = {
    "connection closed without a response": same_fault(Reply(0, {}, b""), NetworkError, "no connection to"),
    "not HTTP": same_fault(Reply(0, {}, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), NetworkError, "no connection to"),
    "cut before the first event": disconnect(0, "", "broke before the reply was complete", ending="cut"),
    "cut with FIN": disconnect(STALL_OFFSET, TEXT_SO_FAR, "broke before the reply was complete", ending="cut"),
    "cut with RST": disconnect(STALL_OFFSET, TEXT_SO_FAR, "broke before the reply was complete", ending="reset"),
    "cut in an event": disconnect(IN_AN_EVENT, TEXT_SO_FAR, "broke before the reply was complete", ending="cut"),
    "cut in a character": disconnect(IN_A_CHARACTER, TEXT_SO_FAR, "broke before the reply was complete", ending="cut"),
    "ended in the middle": clean_end(STALL_OFFSET, TEXT_SO_FAR),
    "ended in an event": clean_end(IN_AN_EVENT, TEXT_SO_FAR),
    "ended in a character": clean_end(IN_A_CHARACTER, TEXT_SO_FAR, "sent an invalid reply"),
    "cut before the terminal event": Fault(
        sse_reply(*OPENING, *REASONING, *MESSAGE, ending="cut"),
        whole_reply(cut_at=len(REPLY_BODY) - 1, ending="cut"), StreamError, "broke before the reply was complete",
        text=FULL_TEXT,
    ),
    "ended before the terminal event": Fault(
        sse_reply(*OPENING, *REASONING, *MESSAGE), whole_reply(cut_at=len(REPLY_BODY) - 1), StreamError,
        "ended before the reply did", text=FULL_TEXT, whole_message="sent an invalid reply",
    ),
    "engine killed": Fault(
        reply(load_broken_stream("kill_engine")), whole_reply(cut_at=HALF, ending="cut"), StreamError,
        "broke before the reply was complete", text="\nI will count.\n\n\n1, 2, 3, 4, 5,",
    ),
    "server killed": Fault(
        reply(load_broken_stream("sigkill_server")), whole_reply(cut_at=HALF, ending="cut"), StreamError,
        "broke before the reply was complete", text="\nI will count.\n\n\n1, 2, 3, ",
    ),
}  # fmt: skip

BAD_REPLIES: Mapping[str, Fault] = {
    "response.failed": bad_reply(
        event("response.failed", response=FAILED), body=_json(FAILED), error=ProviderUnavailableError,
        message="the engine died",
    ),
    "response.failed about the context": bad_reply(
        event("response.failed", response=FAILED | {"error": {"message": "maximum context length is 9 tokens"}}),
        body=_json(FAILED | {"error": {"message": "maximum context length is 9 tokens"}}),
        error=ContextLengthError, message="maximum context length is 9 tokens", retries=0,
    ),
    "error event": bad_reply(
        event("error", message="the engine died", code="server_error"), body=_json({"error": "the engine died"}),
        error=ProviderUnavailableError, message="the engine died",
    ),
    "error event that blames the request": bad_reply(
        event("error", error={"message": "bad input", "type": "BadRequestError", "code": 400}),
        body=_json({"error": {"message": "bad input", "type": "BadRequestError", "code": 400}}),
        error=InvalidRequestError, message="bad input", retries=0, status=400,
    ),
    "error event with a status beside the error": error_event(
        {"message": "no such model", "code": "upstream_error"}, NotFoundError, "no such model", 404, status=404
    ),
    "error event with a status as text": error_event(
        {"message": "slow down", "code": "upstream_error"}, RateLimitError, "slow down", 429, status="429"
    ),
    "error event with a status in the error": error_event(
        {"message": "not you", "status": 403}, AccessDeniedError, "not you", 403
    ),
    "error event that quotes the reply of vLLM": error_event(
        {"message": f"LLM request failed (400 Bad Request): {QUOTED}", "code": "upstream_error"},
        ContextLengthError, "maximum context length is 9 tokens", 400,
    ),
    "error event with a message that is none": error_event(
        {"message": ["odd"], "code": {}}, ProviderUnavailableError, "odd", 502, status=502
    ),
    "error in the format of vLLM's chat endpoint": bad_reply(
        b'data: {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}\n\n',
        b"data: [DONE]\n\n",
        body=_json({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}),
        error=ProviderUnavailableError, message="EngineCore died", status=500,
    ),
    "an error with status 200": error_event(
        {"message": "upstream is gone", "type": "InternalServerError", "code": 502}, ProviderUnavailableError,
        "upstream is gone", 502,
    ),
    "response.failed with a status": bad_reply(
        event("response.failed", response=FAILED | {"error": {"message": "no such model", "code": "404"}}),
        body=_json(FAILED | {"error": {"message": "no such model", "code": "404"}}), error=NotFoundError,
        message="no such model", retries=0, status=404,
    ),
    "response.failed by a content filter": bad_reply(
        event("response.failed", response=FAILED | {"error": {"message": "refused", "code": "content_filter"}}),
        body=_json(FAILED | {"error": {"message": "refused", "code": "content_filter"}}), error=ContentFilterError,
        message="refused", retries=0,
    ),
    "invalid JSON": bad_reply(
        b"event: response.output_text.delta\ndata: {delta: oh}\n\n", COMPLETED, body=b"{id: oh}", error=StreamError,
        message="sent an invalid reply",
    ),
    "JSON of another shape": bad_reply(
        event("response.output_text.delta", delta=["oh"]), COMPLETED, body=b'["oh"]', error=StreamError,
        message="sent an invalid reply",
    ),
    "JSON without end": bad_reply(
        b"event: response.completed\ndata: " + b'{"a":' * 100_000 + b"\n\n", body=b'{"a":' * 100_000,
        error=StreamError, message="sent an invalid reply",
    ),
    "invalid UTF-8": bad_reply(
        text_delta("oh").replace(b"oh", b"\xff\xfe"), COMPLETED, body=REPLY_BODY.replace("東".encode(), b"\xe6\x9d"),
        error=StreamError, message="sent an invalid reply",
    ),
    "a stream with content type text": same_fault(
        Reply(200, {"content-type": "text/plain"}, b"".join(EVENTS)), StreamError, "sent an invalid reply"
    ),
    "JSON with the content type of a stream": same_fault(
        Reply(200, SSE, REPLY_BODY), StreamError, "ended before the reply did"
    ),
    "a body with a wrong content encoding": same_fault(
        Reply(200, SSE | {"content-encoding": "gzip"}, b"".join(EVENTS)), StreamError,
        "broke before the reply was complete",
    ),
    "empty reply": Fault(
        sse_reply(*OPENING, event("response.completed", response=response())), whole_reply(_json(response())),
        ProviderUnavailableError, "the reply was empty", retries=1,
    ),
    "a web page": same_fault(page(200, "<title>Welcome</title>"), StreamError, "sent an invalid reply"),
}  # fmt: skip

FAULTS: Mapping[str, Fault] = {**SILENCES, **CUTS, **BAD_REPLIES, **STATUSES}
