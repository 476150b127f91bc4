"""The table of faults: what a server does wrong, and what must become of it when it does so every time."""

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

from tests.support.recordings import fault as recorded_fault
from tests.support.replay import Ending, Reply, json_reply, reply
from tests.support.wire import (
    ANSWER_TEXT,
    BEFORE_THE_LAST_WORD,
    COMPLETED,
    EVENTS,
    OPENING,
    SPEAKING,
    SSE,
    THINKING,
    THOUGHT_TEXT,
    WHOLE,
    event,
    page,
    refusal,
    response,
    streamed,
    text_delta,
    whole,
)

RETRIES: Final = 2
"""How often the table's provider tries again."""

NEVER: Final = 3600.0
STALLED_AT: Final = BEFORE_THE_LAST_WORD
SEEN_SO_FAR: Final = THOUGHT_TEXT + ANSWER_TEXT.removesuffix("Paris 🗼.")
SEEN_TO_THE_END: Final = THOUGHT_TEXT + ANSWER_TEXT
HALF: Final = len(WHOLE) // 2

CHALLENGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
STARTING = "<html><body><h1>Your model is starting up</h1></body></html>"


@dataclass(frozen=True)
class Fault:
    """`says`: part of the error's words; `seen`: all the text that a stream's watchers saw of one attempt."""

    streamed: Reply
    whole: Reply
    error: type[LLMError]
    says: str
    retries: int = RETRIES
    status: int | None = None
    seen: str = ""
    patience: Mapping[str, Any] = field(default_factory=lambda: {"max_retries": RETRIES})

    def reply(self, stream: bool) -> Reply:
        return self.streamed if stream else self.whole


def either(answer: Reply, error: type[LLMError], says: str, retries: int = RETRIES) -> Fault:
    """A fault that is the same streamed and whole."""
    return Fault(answer, answer, error, says, retries, answer.status if answer.status >= 300 else None)


def broken_off(cut_at: int, seen: str, says: str, ending: Ending) -> Fault:
    """A connection that ends in the middle, both ways."""
    half = whole(cut_at=HALF, ending=ending)
    return Fault(streamed(*EVENTS, cut_at=cut_at, ending=ending), half, StreamError, says, seen=seen)


def stalled(**shape: bytes) -> Fault:
    return Fault(
        streamed(*EVENTS, cut_at=STALLED_AT, ending="stall", **shape),
        whole(cut_at=HALF, ending="stall", drip=b" " if shape else b""),
        LLMTimeoutError,
        "sent nothing for too long",
        seen=SEEN_SO_FAR,
    )


def said_badly(*events: bytes, body: bytes, error: type[LLMError], says: str, retries: int = RETRIES) -> Fault:
    """A reply whose stream goes wrong after the thought, and whose whole body is this."""
    return Fault(streamed(*OPENING, *THINKING, *events), whole(body), error, says, retries, seen=THOUGHT_TEXT)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


FAILED = response(status="failed", error={"code": "server_error", "message": "the engine died"})
BROKEN_REFUSAL = replace(refusal(503), cut_at=5, ending="cut")
IN_A_CHARACTER = b"".join(EVENTS).index("🗼".encode()) + 2
IN_AN_EVENT = STALLED_AT + 12

SILENT: Final = {
    "accepts and never answers": either(
        streamed(delay_before_headers=NEVER), LLMTimeoutError, "sent nothing for too long"
    ),
    "headers and then silence": Fault(
        streamed(ending="stall"), whole(b"", ending="stall"), LLMTimeoutError, "sent nothing for too long"
    ),
    "stall in the middle": stalled(),
    "stall while comments drip in": stalled(drip=b": keep-alive\n\n"),
    "stall while empty lines drip in": stalled(drip=b"\n"),
    "stall while pings drip in": stalled(drip=b'event: ping\ndata: {"type": "ping"}\n\n'),
    "stall while keep-alive events drip in": stalled(drip=b'data: {"type": "keepalive"}\n\n'),
}  # fmt: skip
SILENCES: Mapping[str, Fault] = {
    name: replace(fault, retries=1, patience={"max_retries": 1, "stream_idle_timeout": 0.6})
    for name, fault in SILENT.items()
}


CUTS: Mapping[str, Fault] = {
    "hung up on": either(Reply(0, {}, b""), NetworkError, "no connection to"),
    "not HTTP": either(Reply(0, {}, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), NetworkError, "no connection to"),
    "cut before the first event": broken_off(0, "", "broke before the reply was complete", ending="cut"),
    "cut with FIN": broken_off(STALLED_AT, SEEN_SO_FAR, "broke before the reply was complete", ending="cut"),
    "cut with RST": broken_off(STALLED_AT, SEEN_SO_FAR, "broke before the reply was complete", ending="reset"),
    "cut in an event": broken_off(IN_AN_EVENT, SEEN_SO_FAR, "broke before the reply was complete", ending="cut"),
    "cut in a character": broken_off(IN_A_CHARACTER, SEEN_SO_FAR, "broke before the reply was complete", ending="cut"),
    "ended in the middle": replace(
        broken_off(STALLED_AT, SEEN_SO_FAR, "", ending="clean"), says=""
    ),
    "ended in an event": broken_off(IN_AN_EVENT, SEEN_SO_FAR, "", ending="clean"),
    "ended in a character": broken_off(IN_A_CHARACTER, SEEN_SO_FAR, "", ending="clean"),
    "cut before the terminal event": Fault(
        streamed(*OPENING, *THINKING, *SPEAKING, ending="cut"),
        whole(cut_at=len(WHOLE) - 1, ending="cut"), StreamError, "broke before the reply was complete",
        seen=SEEN_TO_THE_END,
    ),
    "ended before the terminal event": Fault(
        streamed(*OPENING, *THINKING, *SPEAKING), whole(cut_at=len(WHOLE) - 1), StreamError, "", seen=SEEN_TO_THE_END,
    ),
    "engine killed": Fault(
        reply(recorded_fault("kill_engine")), whole(cut_at=HALF, ending="cut"), StreamError,
        "broke before the reply was complete", seen="\nI will count.\n\n\n1, 2, 3, 4, 5,",
    ),
    "server killed": Fault(
        reply(recorded_fault("sigkill_server")), whole(cut_at=HALF, ending="cut"), StreamError,
        "broke before the reply was complete", seen="\nI will count.\n\n\n1, 2, 3, ",
    ),
}  # fmt: skip

SAID: Mapping[str, Fault] = {
    "response.failed": said_badly(
        event("response.failed", response=FAILED), body=_json(FAILED), error=ProviderUnavailableError,
        says="the engine died",
    ),
    "response.failed about the context": said_badly(
        event("response.failed", response=FAILED | {"error": {"message": "maximum context length is 9 tokens"}}),
        body=_json(FAILED | {"error": {"message": "maximum context length is 9 tokens"}}),
        error=ContextLengthError, says="maximum context length is 9 tokens", retries=0,
    ),
    "error event": said_badly(
        event("error", message="the engine died", code="server_error"), body=_json({"error": "the engine died"}),
        error=ProviderUnavailableError, says="the engine died",
    ),
    "error event that blames the request": said_badly(
        event("error", error={"message": "bad input", "type": "BadRequestError", "code": 400}),
        body=_json({"error": {"message": "bad input", "type": "BadRequestError", "code": 400}}),
        error=InvalidRequestError, says="bad input", retries=0,
    ),
    "error as vLLM's chat endpoint says it": said_badly(
        b'data: {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}\n\n',
        b"data: [DONE]\n\n",
        body=_json({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}),
        error=ProviderUnavailableError, says="EngineCore died",
    ),
    "an error with status 200": either(
        whole(_json({"error": {"message": "upstream is gone", "type": "InternalServerError", "code": 502}})),
        ProviderUnavailableError, "upstream is gone",
    ),
    "invalid JSON": said_badly(
        b"event: response.output_text.delta\ndata: {delta: oh}\n\n", COMPLETED, body=b"{id: oh}", error=StreamError,
        says="sent an invalid reply",
    ),
    "JSON of another shape": said_badly(
        event("response.output_text.delta", delta=["oh"]), COMPLETED, body=b'["oh"]', error=StreamError,
        says="sent an invalid reply",
    ),
    "JSON without end": said_badly(
        b"event: response.completed\ndata: " + b'{"a":' * 100_000 + b"\n\n", body=b'{"a":' * 100_000,
        error=StreamError, says="sent an invalid reply",
    ),
    "invalid UTF-8": said_badly(
        text_delta("oh").replace(b"oh", b"\xff\xfe"), COMPLETED, body=WHOLE.replace("東".encode(), b"\xe6\x9d"),
        error=StreamError, says="sent an invalid reply",
    ),
    "a stream called text": either(
        Reply(200, {"content-type": "text/plain"}, b"".join(EVENTS)), StreamError, "sent an invalid reply"
    ),
    "a whole reply called a stream": either(Reply(200, SSE, WHOLE), StreamError, "ended before the reply did"),
    "a body in a coding that it is not": either(
        Reply(200, SSE | {"content-encoding": "gzip"}, b"".join(EVENTS)), StreamError,
        "broke before the reply was complete",
    ),
    "nothing said": Fault(
        streamed(*OPENING, event("response.completed", response=response())), whole(_json(response())),
        ProviderUnavailableError, "the reply was empty", retries=1,
    ),
    "a web page": either(page(200, "<title>Welcome</title>"), StreamError, "sent an invalid reply"),
}  # fmt: skip

STATUSES: Mapping[str, Fault] = {
    "307 to another host": either(
        Reply(307, {"location": "http://127.0.0.1:1/v1/responses"}, b""), ConfigurationError,
        "redirects requests to 'http://127.0.0.1:1/v1/responses'", retries=0,
    ),
    "400": either(refusal(400, "bad"), InvalidRequestError, "bad", retries=0),
    "401 with a word": either(
        json_reply(401, {"error": "Unauthorized"}), AuthenticationError, "Unauthorized", retries=0
    ),
    "403": either(refusal(403, "not you"), AccessDeniedError, "not you", retries=0),
    "403 challenge page": either(page(403, CHALLENGE), ProviderUnavailableError, "Just a moment..."),
    "404": either(json_reply(404, {"detail": "Not Found"}), NotFoundError, "Not Found", retries=0),
    "404 page while it starts": either(page(404, STARTING), ProviderUnavailableError, "starting up"),
    "408": either(refusal(408, "slow"), LLMTimeoutError, "slow"),
    "409": either(refusal(409, "conflict"), ProviderUnavailableError, "conflict"),
    "413": either(refusal(413, "large"), ContextLengthError, "large", retries=0),
    "422": either(refusal(422, "odd"), InvalidRequestError, "odd", retries=0),
    "425": either(refusal(425, "early"), ProviderUnavailableError, "early"),
    "429": either(refusal(429, "slow down"), RateLimitError, "slow down"),
    "429, seconds": either(refusal(429, retry_after="0.05"), RateLimitError, "no"),
    "429, a date": either(
        refusal(429, retry_after="Sat, 21 Nov 2026 07:00:00 GMT", date="Sat, 21 Nov 2026 07:00:00 GMT"),
        RateLimitError, "no",
    ),
    "429, a day": either(refusal(429, retry_after="86400"), RateLimitError, "no", retries=0),
    "429, a date in another age": either(
        refusal(429, retry_after="Sat, 21 Nov 9999 07:00:00 GMT", date="Sat, 21 Nov 2026 07:00:00 GMT"),
        RateLimitError, "no", retries=0,
    ),
    "429, endless digits": either(refusal(429, retry_after="9" * 400), RateLimitError, "no", retries=0),
    "429, a word": either(refusal(429, retry_after="soon"), RateLimitError, "no"),
    "429, negative": either(refusal(429, retry_after="-5"), RateLimitError, "no"),
    "429, no digit": either(refusal(429, retry_after_ms="²"), RateLimitError, "no"),
    "429, quota": either(refusal(429, "You exceeded your quota"), QuotaExceededError, "quota", retries=0),
    "500": either(refusal(500, "EngineCore died"), ProviderUnavailableError, "EngineCore died"),
    "500 and the connection dropped": either(
        replace(refusal(500, "EngineCore died"), ending="close"), ProviderUnavailableError, "EngineCore died"
    ),
    "501": either(refusal(501, "not built"), InvalidRequestError, "not built", retries=0),
    "502 page": either(page(502, "<title>502 Bad Gateway</title>"), ProviderUnavailableError, "502 Bad Gateway"),
    "503, busy": either(refusal(503, "The engine is currently busy."), ProviderUnavailableError, "currently busy"),
    "503, a day": either(refusal(503, retry_after="86400"), ProviderUnavailableError, "no", retries=0),
    "503, broken off": Fault(
        BROKEN_REFUSAL, BROKEN_REFUSAL, StreamError, "broke before the reply was complete"
    ),
    "504": either(refusal(504, "late"), ProviderUnavailableError, "late"),
    "an endless error": either(
        Reply(500, {"content-type": "text/plain"}, b"x" * 5_000_000), ProviderUnavailableError, "xxx"
    ),
}  # fmt: skip

FAULTS: Mapping[str, Fault] = {**SILENCES, **CUTS, **SAID, **STATUSES}
