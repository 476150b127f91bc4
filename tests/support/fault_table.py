"""The table of faults: how a server fails, and the error that a permanent failure must end in."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

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

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.fault import RETRIES, Fault, same_fault
from tests.support.recordings import load_broken_stream as load_broken_stream
from tests.support.refusals import STATUSES
from tests.support.replay import Ending, Reply, reply
from tests.support.speaker import ANSWERS, Answer, body_of
from tests.support.speech import ANSWER_TEXT, CITIES_ANSWER, REASONING_TEXT, Speech
from tests.support.wire import SSE, event, page, response, sse_reply, whole_reply

NEVER: Final = 3600.0
TEXT_SO_FAR: Final = REASONING_TEXT + ANSWER_TEXT.removesuffix("Paris 🗼.")
FULL_TEXT: Final = REASONING_TEXT + ANSWER_TEXT
BROKE: Final = "broke before the reply was complete"
ENDED: Final = "ended before the reply did"
INVALID: Final = "sent an invalid reply"
SILENT: Final = "sent nothing for too long"


def silences(answer: Answer) -> dict[str, Fault]:
    """What sends nothing for too long."""
    silent = {
        "accepts and never answers": same_fault(sse_reply(delay_before_headers=NEVER), LLMTimeoutError, SILENT),
        "headers and then silence": Fault(
            sse_reply(ending="stall"), whole_reply(b"", ending="stall"), LLMTimeoutError, SILENT
        ),
        "stall in the middle": _stall(answer),
        "stall while comments drip in": _stall(answer, drip=b": keep-alive\n\n"),
        "stall while empty lines drip in": _stall(answer, drip=b"\n"),
        "stall while pings drip in": _stall(answer, drip=b'event: ping\ndata: {"type": "ping"}\n\n'),
        "stall while keep-alive events drip in": _stall(answer, drip=b'data: {"type": "keepalive"}\n\n'),
    }
    impatient = {"max_retries": 1, "stream_idle_timeout": 0.6}
    return {name: replace(fault, retries=1, config=impatient) for name, fault in silent.items()}


def cuts(answer: Answer) -> dict[str, Fault]:
    """What ends before the reply does."""
    in_an_event = answer.stall_offset + 12
    half_an_event = ENDED if answer.endpoint == "responses" else INVALID  # there its data has begun
    in_a_character = answer.sse().body.index("🗼".encode()) + 2
    all_but_a_byte = len(answer.body) - 1
    unended = answer.stream.unended
    return {
        "connection closed without a response": same_fault(Reply(0, {}, b""), NetworkError, "no connection to"),
        "not HTTP": same_fault(Reply(0, {}, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), NetworkError, "no connection to"),
        "cut before the first event": _disconnect(answer, 0, "", ending="cut"),
        "cut with FIN": _disconnect(answer, answer.stall_offset, TEXT_SO_FAR, ending="cut"),
        "cut with RST": _disconnect(answer, answer.stall_offset, TEXT_SO_FAR, ending="reset"),
        "cut in an event": _disconnect(answer, in_an_event, TEXT_SO_FAR, ending="cut"),
        "cut in a character": _disconnect(answer, in_a_character, TEXT_SO_FAR, ending="cut"),
        "ended in the middle": _clean_end(answer, answer.stall_offset, TEXT_SO_FAR),
        "ended in an event": _clean_end(answer, in_an_event, TEXT_SO_FAR, half_an_event),
        "ended in a character": _clean_end(answer, in_a_character, TEXT_SO_FAR, INVALID),
        "cut before the terminal event": Fault(
            sse_reply(*unended, ending="cut"), answer.whole(cut_at=all_but_a_byte, ending="cut"), StreamError, BROKE,
            text=FULL_TEXT,
        ),
        "ended before the terminal event": Fault(
            sse_reply(*unended), answer.whole(cut_at=all_but_a_byte), StreamError, ENDED, text=FULL_TEXT,
            whole_message=INVALID,
        ),
    }  # fmt: skip


def bad_replies(answer: Answer) -> dict[str, Fault]:
    """What is not a reply, or one that failed."""
    ending, nothing = answer.stream.ending, Speech(())
    last_event = answer.speaker.last_event
    return {
        "error event that blames the request": _error_event(
            answer, {"message": "bad input", "type": "BadRequestError", "code": 400}, InvalidRequestError, "bad input",
            400,
        ),
        "error event with a status beside the error": _error_event(
            answer, {"message": "no such model", "code": "upstream_error"}, NotFoundError, "no such model", 404,
            status=404,
        ),
        "error event with a status as text": _error_event(
            answer, {"message": "slow down", "code": "upstream_error"}, RateLimitError, "slow down", 429, status="429"
        ),
        "error event with a status in the error": _error_event(
            answer, {"message": "not you", "status": 403}, AccessDeniedError, "not you", 403
        ),
        "error event that quotes the reply of vLLM": _error_event(
            answer, {"message": f"LLM request failed (400 Bad Request): {QUOTED}", "code": "upstream_error"},
            ContextLengthError, "maximum context length is 9 tokens", 400,
        ),
        "error event with a message that is none": _error_event(
            answer, {"message": ["odd"], "code": {}}, ProviderUnavailableError, "odd", 502, status=502
        ),
        "an error with status 200": _error_event(
            answer, {"message": "upstream is gone", "type": "InternalServerError", "code": 502},
            ProviderUnavailableError, "upstream is gone", 502,
        ),
        "invalid JSON": _bad_reply(
            answer, last_event(b"{delta: oh}"), *ending, body=b"{id: oh}", error=StreamError, message=INVALID
        ),
        "JSON of another shape": _bad_reply(
            answer, answer.text_delta("oh").replace(b'"oh"', b'["oh"]'), *ending, body=b'["oh"]', error=StreamError,
            message=INVALID,
        ),
        "JSON without end": _bad_reply(
            answer, last_event(b'{"a":' * 100_000), body=b'{"a":' * 100_000, error=StreamError, message=INVALID
        ),
        "invalid UTF-8": _bad_reply(
            answer, answer.text_delta("oh").replace(b"oh", b"\xff\xfe"), *ending,
            body=answer.body.replace("東".encode(), b"\xe6\x9d"), error=StreamError, message=INVALID,
        ),
        "a stream with content type text": same_fault(
            replace(answer.sse(), headers={"content-type": "text/plain"}), StreamError, INVALID
        ),
        "JSON with the content type of a stream": same_fault(Reply(200, SSE, answer.body), StreamError, ENDED),
        "a body with a wrong content encoding": same_fault(
            replace(answer.sse(), headers=SSE | {"content-encoding": "gzip"}), StreamError, BROKE
        ),
        "empty reply": Fault(
            sse_reply(*answer.speaker.stream(nothing).events), whole_reply(body_of(answer.speaker, nothing)),
            ProviderUnavailableError, "the reply was empty", retries=1,
        ),
        "a web page": same_fault(page(200, "<title>Welcome</title>"), StreamError, INVALID),
    }  # fmt: skip


def failed_responses(answer: Answer) -> dict[str, Fault]:
    """What only /v1/responses sends."""
    return {
        "engine killed": Fault(
            reply(load_broken_stream("kill_engine")), answer.whole(cut_at=len(answer.body) // 2, ending="cut"),
            StreamError, BROKE, text="\nI will count.\n\n\n1, 2, 3, 4, 5,",
        ),
        "server killed": Fault(
            reply(load_broken_stream("sigkill_server")), answer.whole(cut_at=len(answer.body) // 2, ending="cut"),
            StreamError, BROKE, text="\nI will count.\n\n\n1, 2, 3, ",
        ),
        "response.failed": _failed(
            answer, {"code": "server_error", "message": "the engine died"}, ProviderUnavailableError,
            "the engine died", retries=RETRIES,
        ),
        "response.failed about the context": _failed(
            answer, {"message": "maximum context length is 9 tokens"}, ContextLengthError,
            "maximum context length is 9 tokens",
        ),
        "response.failed with a status": _failed(
            answer, {"message": "no such model", "code": "404"}, NotFoundError, "no such model", status=404
        ),
        "response.failed by a content filter": _failed(
            answer, {"message": "refused", "code": "content_filter"}, ContentFilterError, "refused"
        ),
        "error event": _bad_reply(
            answer, event("error", message="the engine died", code="server_error"),
            body=_json({"error": "the engine died"}), error=ProviderUnavailableError, message="the engine died",
        ),
        "error in the format of vLLM's chat endpoint": _bad_reply(
            answer,
            b'data: {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}\n\n',
            b"data: [DONE]\n\n",
            body=_json({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}),
            error=ProviderUnavailableError, message="EngineCore died", status=500,
        ),
    }  # fmt: skip


def unfinished_choices(answer: Answer) -> dict[str, Fault]:
    """What only the endpoints with a finish reason send."""
    aborted = replace(CITIES_ANSWER, ending="abort")
    return {
        "error that is text": _bad_reply(
            answer, *answer.speaker.error("the engine died"), body=_json({"error": "the engine died"}),
            error=ProviderUnavailableError, message="the engine died",
        ),
        "done without a finish reason": Fault(
            sse_reply(*answer.stream.unended, answer.stream.ending[-1]),
            answer.whole(cut_at=len(answer.body) // 2), StreamError, ENDED, text=FULL_TEXT, whole_message=INVALID,
        ),
        "aborted by the engine": Fault(
            sse_reply(*answer.speaker.stream(aborted).events), whole_reply(body_of(answer.speaker, aborted)),
            ProviderUnavailableError, "the server aborted the reply", text=FULL_TEXT,
        ),
    }  # fmt: skip


def _stall(answer: Answer, **shape: bytes) -> Fault:
    return Fault(
        answer.sse(cut_at=answer.stall_offset, ending="stall", **shape),
        answer.whole(cut_at=len(answer.body) // 2, ending="stall", drip=b" " if shape else b""),
        LLMTimeoutError,
        SILENT,
        text=TEXT_SO_FAR,
    )


def _disconnect(answer: Answer, cut_at: int, text: str, ending: Ending) -> Fault:
    """A connection that ends in the middle of the body."""
    half = answer.whole(cut_at=len(answer.body) // 2, ending=ending)
    return Fault(answer.sse(cut_at=cut_at, ending=ending), half, StreamError, BROKE, text=text)


def _clean_end(answer: Answer, cut_at: int, text: str, message: str = ENDED) -> Fault:
    """A body that ends properly, but before the reply does."""
    return replace(_disconnect(answer, cut_at, text, ending="clean"), message=message, whole_message=INVALID)


def _bad_reply(
    answer: Answer,
    *events: bytes,
    body: bytes,
    error: type[LLMError],
    message: str,
    retries: int = RETRIES,
    status: int | None = None,
) -> Fault:
    """A stream that fails after the reasoning, and an invalid unstreamed body."""
    stream = sse_reply(*answer.after_reasoning, *events)
    return Fault(stream, whole_reply(body), error, message, retries, status, text=REASONING_TEXT)


def _error_event(
    answer: Answer, error: object, expected: type[LLMError], message: str, means: int, **beside: object
) -> Fault:
    """An error event that means a status, and the same error as an unstreamed reply with status 200."""
    body = _json({"error": error, **beside})
    retries = RETRIES if means >= 500 or means == 429 else 0
    events = answer.speaker.error(error, **beside)
    return _bad_reply(answer, *events, body=body, error=expected, message=message, retries=retries, status=means)


def _failed(
    answer: Answer, reason: dict[str, str], error: type[LLMError], message: str, retries: int = 0, **means: Any
) -> Fault:
    """A `response.failed`, and the same response unstreamed."""
    failed = response(status="failed", error=reason)
    event_ = event("response.failed", response=failed)
    return _bad_reply(answer, event_, body=_json(failed), error=error, message=message, retries=retries, **means)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


QUOTED: Final = json.dumps(
    {"error": {"message": "maximum context length is 9 tokens", "type": "BadRequestError", "code": 400}}
)


def _faults(answer: Answer) -> dict[str, Fault]:
    own = failed_responses if answer.endpoint == "responses" else unfinished_choices
    return silences(answer) | cuts(answer) | bad_replies(answer) | own(answer) | dict(STATUSES)


FAULTS: Final[Mapping[EndpointName, Mapping[str, Fault]]] = {name: _faults(answer) for name, answer in ANSWERS.items()}
"""By the endpoint that they are faults of."""
