"""Convert failures to Amplifier's errors: the only module that decides their class and whether to retry."""

import asyncio
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import openai
from amplifier_core.llm_errors import (
    AbortError,
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
    ContentFilterError,
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

from ._constants import PROVIDER
from ._failure import Failure
from ._secrets import Secrets, hidden_secrets
from ._server_text import is_empty, is_page, is_warm_up, reason_line, retry_after, sanitize, server_failure
from ._sizes import RefusedBodyError
from ._turn import Turn

CONTEXT_PHRASES = (
    "maximum context length",
    "maximum model length",
    "max_model_len",
    "context length",
    "context window",
    "prompt is too long",
    "too many tokens",
    "reduce the length",
)
"""Phrases for a prompt that does not fit, from vLLM, its older versions and gateways."""

CONTENT_FILTER_PHRASES = (
    "content filter", "content policy", "content management policy", "content moderation", "content safety policy",
    "moderation policy", "guardrail policy", "responsibleaipolicy", "input was flagged", "prompt was flagged",
)  # fmt: skip
"""Phrases and codes of content filters, with `_` and `-` as spaces: Azure, LiteLLM, OpenRouter and others."""

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for invalid JSON: malformed, not UTF-8, or nested too deep."""

CHECK_SERVER = "check that the vLLM server is running there and that `base_url` (VLLM_BASE_URL) is right"


@contextmanager
def failures_as_llm_errors(
    model: str | None, url: str, waited: str = "", secrets: Callable[[], Secrets] = Secrets
) -> Generator[None]:
    """Convert failures of the connection and the server to `LLMError`; programming errors propagate unchanged.

    `waited`: what the error of a timeout says of its limit.
    """
    with hidden_secrets(secrets):
        try:
            yield
        except _failure_types() as error:
            raise to_llm_error(error, model, url, waited) from error


def to_llm_error(error: Exception, model: str | None, url: str, waited: str = "") -> LLMError:
    common: dict[str, Any] = {"provider": PROVIDER, "model": model}
    refused = next((cause for cause in causes(error) if isinstance(cause, RefusedBodyError)), None)
    if refused is not None:
        return StreamError(f"{url} sent {refused}", retryable=False, **common)
    match error:
        case openai.APIStatusError():
            return _status_error(error, common)
        case openai.APITimeoutError() | TimeoutError():
            if _is_connect_timeout(error):
                return NetworkError(f"no connection to {url} within the connect timeout; {CHECK_SERVER}", **common)
            return LLMTimeoutError(f"{url} sent nothing for too long: {waited or str(error) or 'timed out'}", **common)
        case openai.APIConnectionError():
            return NetworkError(f"no connection to {url} ({sanitize(root_cause(error))}); {CHECK_SERVER}", **common)
        case openai.APIResponseValidationError() | msgspec.MsgspecError() | UnicodeDecodeError() | RecursionError():
            return StreamError(sanitize(f"{url} sent an invalid reply: {error}"), **common)
        case openai.APIError():
            return ProviderUnavailableError(sanitize(str(error)), **common)
        case _:
            text = sanitize(root_cause(error))
            return StreamError(f"the connection to {url} broke before the reply was complete ({text})", **common)


def failed_reply(turn: Turn, model: str) -> LLMError:
    """The error for a reply with status `failed`."""
    return failed_stream(turn.failure or Failure("the server ended the reply as failed without a reason"), model)


def failed_stream(failure: Failure, model: str) -> LLMError:
    """The error for an `error` event in a stream. Its status counts like that of a reply."""
    common: dict[str, Any] = {"provider": PROVIDER, "model": model}
    reason, words = reason_line(failure.message), _words(failure)
    if failure.status is not None:
        common |= {"status_code": failure.status}
        return _code_error(failure.status, words, reason, common, common)
    return _words_error(words, reason, common) or ProviderUnavailableError(reason, **common)


def truncated_stream(model: str) -> LLMError:
    return StreamError("the stream ended before the reply did", provider=PROVIDER, model=model)


def empty_reply(turn: Turn, model: str, *, retryable: bool) -> LLMError:
    """The error for an empty reply: as a success it would make agent loops ask forever."""
    reason = sanitize(turn.incomplete_reason or "")
    ended = f"truncated ({reason}) before any output" if reason else "empty"
    return ProviderUnavailableError(f"the reply was {ended}", provider=PROVIDER, model=model, retryable=retryable)


def is_unreachable(error: LLMError) -> bool:
    """Whether there was no connection at all: one that breaks belongs to a server that works."""
    return any(type(cause).__name__ in ("ConnectError", "ConnectTimeout") for cause in causes(error))


def unreadable_tokens(model: str) -> InvalidRequestError:
    """The error for a reply in whose tokens we read something else than its server did."""
    message = "the reply's token ids say something else than the server read in them"
    return InvalidRequestError(message, provider=PROVIDER, model=model)


def other_prompt(model: str) -> InvalidRequestError:
    """The error for a server that prompted the model with other tokens than it was sent."""
    message = "the server prompted the model with other tokens than those that it was sent"
    return InvalidRequestError(message, provider=PROVIDER, model=model)


def no_vocabulary(model: str) -> ConfigurationError:
    message = (
        f"a reply of {model} from /v1/completions is read with the gpt-oss vocabulary, which is missing (see the log):"
        " provide it, or set `endpoint: chat`"
    )
    return ConfigurationError(message, provider=PROVIDER, model=model)


def restarting(error: LLMError) -> ProviderUnavailableError:
    """The retryable error for an empty 404 of a server that restarts."""
    return ProviderUnavailableError(
        f"{error}; or its server restarts", provider=PROVIDER, model=error.model, status_code=error.status_code
    )


def overflow(error: InvalidRequestError) -> ContextLengthError:
    """The error for a prompt that leaves no room for a reply."""
    message = f"the prompt fills the model's window: {error}"
    return ContextLengthError(message, provider=PROVIDER, model=error.model, status_code=error.status_code)


def closed(model: str | None) -> AbortError:
    """The error of a call whose provider was closed while it ran: it is not to open the connections again."""
    return AbortError("the provider was closed during the call", provider=PROVIDER, model=model)


def unknown_model(error: NotFoundError, served: list[str]) -> NotFoundError:
    """The same error, with the list of served models."""
    return NotFoundError(
        f"{error} The server has: {', '.join(served)}. Set `default_model` to one of them.",
        provider=PROVIDER,
        model=error.model,
        status_code=error.status_code,
    )


def root_cause(error: BaseException) -> str:
    """Class and message of the first cause."""
    root = list(causes(error))[-1]
    return f"{type(root).__name__}: {root}" if str(root) else type(root).__name__


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its chain of causes, the first cause last.

    httpcore passes the error that it wraps as an argument; a connection tried at several addresses fails with a group.
    An implicit context is no cause: it may be an error that the caller was handling when it called us.
    """
    yield error
    wrapped = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
    inner = cast("BaseExceptionGroup[BaseException]", error).exceptions if isinstance(error, BaseExceptionGroup) else ()
    for cause in (error.__cause__ or wrapped, *inner):
        if cause is not None:
            yield from causes(cause)


def http_library_errors() -> tuple[type[Exception], ...]:
    """The SDK reads through httpx in 2.x and httpx2 in 3.x; whichever is loaded may raise while we read."""
    loaded = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return (asyncio.IncompleteReadError, *(module.RequestError for module in loaded if module is not None))


def _failure_types() -> tuple[type[Exception], ...]:
    return (openai.APIError, RefusedBodyError, *UNREADABLE, TimeoutError, *http_library_errors())


def _status_error(error: openai.APIStatusError, common: dict[str, Any]) -> LLMError:
    failure, status = server_failure(error), error.status_code
    text = reason_line(failure.message)
    common |= {"status_code": status}
    again: dict[str, Any] = common | {"retry_after": retry_after(error.response.headers, datetime.now(UTC))}
    match status:
        case status if status < 400:
            scheme, slashes, rest = error.response.headers.get("location", "").partition("//")
            place = sanitize(f"{scheme}{slashes}{rest.rpartition('@')[2]}".partition("?")[0])
            return ConfigurationError(f"the server redirects requests to {place!r}; set `base_url` to that", **common)
        case 403 if is_page(error):
            return ProviderUnavailableError(text, **again)
        case 404 if is_warm_up(error):
            return ProviderUnavailableError(text, **again)
        case 404 if is_empty(error):
            return NotFoundError(f"{text}; check that `base_url` (VLLM_BASE_URL) ends with vLLM's path", **common)
        case 400 if "previous_response_not_found" in error.response.text:
            return NotFoundError(text, **common)
        case _:
            return _code_error(status, _words(failure), text, common, again)


def _words(failure: Failure) -> str:
    """What decides the class of an error: the server's own words, before anything is redacted."""
    return f"{failure.message} {failure.kind}".lower()


def _code_error(code: int, words: str, text: str, common: dict[str, Any], again: dict[str, Any]) -> LLMError:
    """The error for an HTTP status of 400 or more; `again`: the keywords of a retryable error."""
    match code:
        case 401:
            return AuthenticationError(f"{text}: the server refused the key; set `api_key` (VLLM_API_KEY)", **common)
        case 403 if not _is_filtered(words):
            return AccessDeniedError(text, **common)
        case 404 | 405 | 410:
            return NotFoundError(text, **common)
        case 408:
            return LLMTimeoutError(text, **again)
        case 413:
            return ContextLengthError(text, **common)
        case 409 | 425:
            return ProviderUnavailableError(text, **again)
        case 429 if _is_spent(words, again.get("retry_after")):
            return QuotaExceededError(text, **common)
        case 429:
            return RateLimitError(text, **again)
        case 501:
            return InvalidRequestError(text, **common)
        case code if code >= 500:
            return ProviderUnavailableError(text, **again)
        case _:
            return _words_error(words, text, common) or InvalidRequestError(text, **common)


def _words_error(words: str, text: str, common: dict[str, Any]) -> LLMError | None:
    # "max_output_tokens=9000 cannot be greater than max_model_len=4096" is about the request, not about the prompt.
    if any(phrase in words for phrase in CONTEXT_PHRASES) and not re.match(r"max_(\w+_)?tokens=", words):
        return ContextLengthError(text, **common)
    return ContentFilterError(text, **common) if _is_filtered(words) else None


def _is_filtered(words: str) -> bool:
    spaced = re.sub("[_-]", " ", words)
    return any(phrase in spaced for phrase in CONTENT_FILTER_PHRASES)


def _is_spent(words: str, wait: float | None) -> bool:
    """Whether a quota is spent. One that a minute refills is a rate limit: the server says when to come back."""
    return "billing" in words or ("quota" in words and wait is None and "per minute" not in words)


def _is_connect_timeout(error: Exception) -> bool:
    return any(type(cause).__name__ == "ConnectTimeout" for cause in causes(error))
