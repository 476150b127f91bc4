"""What answered was no vLLM that is ready: say what it was, and how to get past it."""

import re
import ssl
from collections.abc import Iterator

from amplifier_core.llm_errors import (
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    ProviderUnavailableError,
    StreamError,
)

from .._constants import CONNECT_TIMEOUT
from .._wire.client import Transport
from .connection import Way
from .findings import Finding, fail
from .remedies import SERVER_LOG, remedy_for

CHECK_PLACE = "see that scheme, host and port of `base_url` (VLLM_BASE_URL) are vLLM's own"
WAIT = "wait until the model is loaded; with `startup_timeout: 600` sessions wait by themselves"
FRONT = "ask whoever runs what stands in front of it (a log-in, a bot check); `extra_headers` can carry what it wants"


async def unusable(transport: Transport, way: Way, error: LLMError) -> Finding:
    """For a connection that came about, and an answer that was not what it should be."""
    match error:
        case NetworkError():
            said, remedy = _not_http(way, error)
        case LLMTimeoutError():
            said = f"{way} takes connections, but said nothing within {CONNECT_TIMEOUT:.0f} s"
            remedy = f"{SERVER_LOG}: it is overloaded, or stuck. Or {CHECK_PLACE}"
        case StreamError():
            said, remedy = await _no_list(transport), CHECK_PLACE
        case ProviderUnavailableError(status_code=403):
            said, remedy = f"something in front of the server turned us away: {error}", FRONT
        case ProviderUnavailableError(status_code=502 | 504):
            said, remedy = f"a gateway answers, but no vLLM behind it: {error}", f"start vLLM behind it, or {WAIT}"
        case ProviderUnavailableError(status_code=500):
            said, remedy = f"the server answers with an error: {error}", SERVER_LOG
        case ProviderUnavailableError():
            said, remedy = f"the server is not ready: {error}", WAIT
        case InvalidRequestError():
            said, remedy = f"{way} answers, but not as vLLM does: {error}", CHECK_PLACE
        case _:
            said, remedy = str(error), remedy_for(error)
    return fail("reachable", said, remedy if way.proxy is None else f"{remedy}. Or {way.around}")


def _not_http(way: Way, error: NetworkError) -> tuple[str, str]:
    causes = list(_causes(error))
    refused = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if refused is not None:
        said = f"the certificate of {way} is not accepted: {refused.verify_message or refused.reason}"
        return said, "let SSL_CERT_FILE name the authority that signed it, or correct the host in `base_url`"
    broken = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if broken is not None:
        said = f"{way} does not speak TLS as it should ({broken.reason or broken})"
        return said, "write `http://` in `base_url` (VLLM_BASE_URL) if the server has no TLS"
    said = f"{way} takes connections, but does not answer as an HTTP server does ({_told(causes[-1])})"
    return said, f"{CHECK_PLACE}; one with TLS needs `https://`"


async def _no_list(transport: Transport) -> str:
    try:
        text = await transport.get_text("/models", CONNECT_TIMEOUT)
    except LLMError as error:
        return str(error)
    if not text.lstrip().startswith("<"):
        return f"what {transport.url}/models gives is no list of models: {text.strip()[:80]!r}"
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    return f"a web page answers at {transport.url}/models: {' '.join(title[1].split()) if title else 'untitled'}"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, the first cause last."""
    yield error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for cause in (*inner, error.__cause__ or error.__context__):
        if cause is not None:
            yield from _causes(cause)
