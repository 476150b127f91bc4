"""The table of faults: how a server fails, and the error that a permanent failure must end in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from amplifier_core.llm_errors import (
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    NotFoundError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    StreamError,
)

from tests.support.recordings import load_broken_stream as load_broken_stream
from tests.support.replay import Ending, Reply, json_reply, reply
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
    refusal,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

RETRIES: Final = 2
"""The number of retries of the table's provider."""

NEVER: Final = 3600.0
STALL_OFFSET: Final = LAST_DELTA_OFFSET
TEXT_SO_FAR: Final = REASONING_TEXT + ANSWER_TEXT.removesuffix("Paris 🗼.")
FULL_TEXT: Final = REASONING_TEXT + ANSWER_TEXT
HALF: Final = len(REPLY_BODY) // 2

CHALLENGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
STARTING = "<html><body><h1>Your model is starting up</h1></body></html>"


@dataclass(frozen=True)
class Fault:
    """`message`: a part of the error message; `text`: all the text that one streamed attempt shows.

    `whole_message`: a part of the error message of the unstreamed reply, if that differs.
    """

    sse_reply: Reply
    whole_reply: Reply
    error: type[LLMError]
    message: str
    retries: int = RETRIES
    status: int | None = None
    text: str = ""
    config: Mapping[str, Any] = field(default_factory=lambda: {"max_retries": RETRIES})

    whole_message: str | None = None

    def reply(self, stream: bool) -> Reply:
        return self.sse_reply if stream else self.whole_reply

    def error_message(self, stream: bool) -> str:
        return self.message if stream or self.whole_message is None else self.whole_message


def same_fault(reply: Reply, error: type[LLMError], message: str, retries: int = RETRIES) -> Fault:
    """A fault with the same reply, streamed or not."""
    return Fault(reply, reply, error, message, retries, reply.status if reply.status >= 300 else None)


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


def bad_reply(*events: bytes, body: bytes, error: type[LLMError], message: str, retries: int = RETRIES) -> Fault:
    """A stream that fails after the reasoning, and an invalid unstreamed body."""
    return Fault(
        sse_reply(*OPENING, *REASONING, *events), whole_reply(body), error, message, retries, text=REASONING_TEXT
    )


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


FAILED = response(status="failed", error={"code": "server_error", "message": "the engine died"})
BROKEN_REFUSAL = replace(refusal(503), cut_at=5, ending="cut")
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
        error=InvalidRequestError, message="bad input", retries=0,
    ),
    "error in the format of vLLM's chat endpoint": bad_reply(
        b'data: {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}\n\n',
        b"data: [DONE]\n\n",
        body=_json({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}),
        error=ProviderUnavailableError, message="EngineCore died",
    ),
    "an error with status 200": same_fault(
        whole_reply(_json({"error": {"message": "upstream is gone", "type": "InternalServerError", "code": 502}})),
        ProviderUnavailableError, "upstream is gone",
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

STATUSES: Mapping[str, Fault] = {
    "307 to another host": same_fault(
        Reply(307, {"location": "http://127.0.0.1:1/v1/responses"}, b""), ConfigurationError,
        "redirects requests to 'http://127.0.0.1:1/v1/responses'", retries=0,
    ),
    "400": same_fault(refusal(400, "bad"), InvalidRequestError, "bad", retries=0),
    "401 with a string as error": same_fault(
        json_reply(401, {"error": "Unauthorized"}), AuthenticationError, "Unauthorized", retries=0
    ),
    "403": same_fault(refusal(403, "not you"), AccessDeniedError, "not you", retries=0),
    "403 challenge page": same_fault(page(403, CHALLENGE), ProviderUnavailableError, "Just a moment..."),
    "404": same_fault(json_reply(404, {"detail": "Not Found"}), NotFoundError, "Not Found", retries=0),
    "404 page of a starting server": same_fault(page(404, STARTING), ProviderUnavailableError, "starting up"),
    "408": same_fault(refusal(408, "slow"), LLMTimeoutError, "slow"),
    "409": same_fault(refusal(409, "conflict"), ProviderUnavailableError, "conflict"),
    "413": same_fault(refusal(413, "large"), ContextLengthError, "large", retries=0),
    "422": same_fault(refusal(422, "odd"), InvalidRequestError, "odd", retries=0),
    "425": same_fault(refusal(425, "early"), ProviderUnavailableError, "early"),
    "429": same_fault(refusal(429, "slow down"), RateLimitError, "slow down"),
    "429, seconds": same_fault(refusal(429, retry_after="0.05"), RateLimitError, "no"),
    "429, a date": same_fault(
        refusal(429, retry_after="Sat, 21 Nov 2026 07:00:00 GMT", date="Sat, 21 Nov 2026 07:00:00 GMT"),
        RateLimitError, "no",
    ),
    "429, a day": same_fault(refusal(429, retry_after="86400"), RateLimitError, "no", retries=0),
    "429, a date far in the future": same_fault(
        refusal(429, retry_after="Sat, 21 Nov 9999 07:00:00 GMT", date="Sat, 21 Nov 2026 07:00:00 GMT"),
        RateLimitError, "no", retries=0,
    ),
    "429, endless digits": same_fault(refusal(429, retry_after="9" * 400), RateLimitError, "no", retries=0),
    "429, a word": same_fault(refusal(429, retry_after="soon"), RateLimitError, "no"),
    "429, negative": same_fault(refusal(429, retry_after="-5"), RateLimitError, "no"),
    "429, not an ASCII digit": same_fault(refusal(429, retry_after_ms="²"), RateLimitError, "no"),
    "429, quota": same_fault(refusal(429, "You exceeded your quota"), QuotaExceededError, "quota", retries=0),
    "500": same_fault(refusal(500, "EngineCore died"), ProviderUnavailableError, "EngineCore died"),
    "500 and the connection dropped": same_fault(
        replace(refusal(500, "EngineCore died"), ending="close"), ProviderUnavailableError, "EngineCore died"
    ),
    "501": same_fault(refusal(501, "not built"), InvalidRequestError, "not built", retries=0),
    "502 page": same_fault(page(502, "<title>502 Bad Gateway</title>"), ProviderUnavailableError, "502 Bad Gateway"),
    "503, busy": same_fault(refusal(503, "The engine is currently busy."), ProviderUnavailableError, "currently busy"),
    "503, a day": same_fault(refusal(503, retry_after="86400"), ProviderUnavailableError, "no", retries=0),
    "503, truncated": Fault(
        BROKEN_REFUSAL, BROKEN_REFUSAL, StreamError, "broke before the reply was complete"
    ),
    "504": same_fault(refusal(504, "late"), ProviderUnavailableError, "late"),
    "an endless error": same_fault(
        Reply(500, {"content-type": "text/plain"}, b"x" * 5_000_000), ProviderUnavailableError, "xxx"
    ),
}  # fmt: skip

FAULTS: Mapping[str, Fault] = {**SILENCES, **CUTS, **BAD_REPLIES, **STATUSES}
