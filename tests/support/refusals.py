"""The table of refusals: the statuses, headers and bodies with which a server or a gateway refuses a request."""

from collections.abc import Mapping
from dataclasses import replace

from amplifier_core.llm_errors import (
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LLMTimeoutError,
    NotFoundError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    StreamError,
)

from tests.support.fault import Fault, same_fault
from tests.support.replay import Reply, json_reply
from tests.support.wire import page, refusal

CHALLENGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
STARTING = "<html><body><h1>Your model is starting up</h1></body></html>"
TITLED_WAIT = "<html><head><title>Waiting for service to respond</title></head><body>Please wait</body></html>"
STARTS_IN_BODY = "<title>404</title><body><p>Your service is&nbsp;<b>starting</b>. Reload in a minute.</p></body>"
INITIALIZING = "<title>Space</title><div>Initializing …</div>"
WARMING = "<title>Endpoint</title><h1>WARMING UP</h1>"
A_SITE = "<title>404 Not Found</title><script>initializing('warming up')</script><style>.service-is-starting{}</style>"
BROKEN_REFUSAL = replace(refusal(503), cut_at=5, ending="cut")

STATUSES: Mapping[str, Fault] = {
    "307 to another host": same_fault(
        Reply(307, {"location": "http://127.0.0.1:1/v1/responses"}, b""), ConfigurationError,
        "redirects requests to 'http://127.0.0.1:1/v1/responses'", retries=0,
    ),
    "400": same_fault(refusal(400, "bad"), InvalidRequestError, "bad", retries=0),
    "400, content filter": same_fault(
        refusal(400, "Blocked by the content filter"), ContentFilterError, "content filter", retries=0
    ),
    "400, content filter as the code": same_fault(
        json_reply(400, {"error": {"message": "The prompt was refused.", "code": "content_filter"}}),
        ContentFilterError, "The prompt was refused.", retries=0,
    ),
    "403, flagged": same_fault(refusal(403, "Your input was flagged"), ContentFilterError, "flagged", retries=0),
    "422 whose message stands beside the word": same_fault(
        json_reply(422, {"error": "validation_error", "message": "1. body.temperature : too small", "detail": []}),
        InvalidRequestError, "1. body.temperature : too small", retries=0,
    ),
    "400 that names its parameter beside the message": same_fault(
        json_reply(400, {"error": {"message": "Unsupported value.", "param": "top_k"}}), InvalidRequestError,
        "Unsupported value. (parameter=top_k)", retries=0,
    ),
    "401 with a string as error": same_fault(
        json_reply(401, {"error": "Unauthorized"}), AuthenticationError, "Unauthorized", retries=0
    ),
    "403": same_fault(refusal(403, "not you"), AccessDeniedError, "not you", retries=0),
    "403 challenge page": same_fault(page(403, CHALLENGE), ProviderUnavailableError, "Just a moment..."),
    "404": same_fault(json_reply(404, {"detail": "Not Found"}), NotFoundError, "Not Found", retries=0),
    "404 page of a starting server": same_fault(page(404, STARTING), ProviderUnavailableError, "starting up"),
    "404 page, waiting": same_fault(page(404, TITLED_WAIT), ProviderUnavailableError, "Waiting for service to respond"),
    "404 page that says it in its body": same_fault(
        page(404, STARTS_IN_BODY), ProviderUnavailableError, "404: service is starting"
    ),
    "404 page, initializing": same_fault(page(404, INITIALIZING), ProviderUnavailableError, "Space: initializing"),
    "404 page, warming up": same_fault(page(404, WARMING), ProviderUnavailableError, "Endpoint: warming up"),
    "404 page of another site": same_fault(page(404, A_SITE), NotFoundError, "404 Not Found", retries=0),
    "404 text of a starting server": same_fault(
        Reply(404, {"content-type": "text/plain"}, b"Waiting for service to respond"), ProviderUnavailableError,
        "Waiting for service to respond",
    ),
    "404 JSON that speaks of a start": same_fault(
        refusal(404, "The model `x` is still starting up and warming up"), NotFoundError, "starting up", retries=0
    ),
    "404 without a body": same_fault(Reply(404, {}, b""), ProviderUnavailableError, "404 without a body"),
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
    "429, a date far in the future by our clock": same_fault(
        refusal(429, retry_after="Sat, 21 Nov 9999 07:00:00 GMT"), RateLimitError, "no", retries=0
    ),
    "429, longer than we wait": same_fault(refusal(429, retry_after="61"), RateLimitError, "no", retries=0),
    "503, longer than we wait": same_fault(refusal(503, retry_after="61"), ProviderUnavailableError, "no", retries=0),
    "429, quota of a minute": same_fault(
        refusal(429, "Quota exceeded for requests per minute", retry_after="0.05"), RateLimitError, "per minute"
    ),
    "429, spent quota with a wait": same_fault(
        refusal(429, "You exceeded your quota, check your billing details", retry_after="0.05"), QuotaExceededError,
        "quota", retries=0,
    ),
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
