"""Check that a server can be reached at all, that it lets us in, and what it serves."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from amplifier_core.llm_errors import (
    AccessDeniedError,
    AuthenticationError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    NotFoundError,
    ProviderUnavailableError,
    StreamError,
)

from .._config import Config
from .._constants import ANSWER_TIMEOUT, CONNECT_TIMEOUT, NO_API_KEY
from .._errors import causes, root_cause
from .._limits import limits_of, only_model
from .._server import Server
from .._server_text import page_title
from .._wire.client import Transport
from .._wire.http import proxy_before
from .._wire.url import normalized_url
from .findings import KEY, SERVER_LOG, Finding, Outcome, fail, note, ok, remedy_for

CHOOSE = "set `default_model` (here: --model) to the one to ask"
RIGHT_PLACE = "`base_url` (VLLM_BASE_URL) must name the `/v1` of a vLLM server"
START_VLLM = (
    "start it with `vllm serve MODEL`, or set `base_url` (VLLM_BASE_URL) to where it runs; a vLLM that is still loading"
    " its model does not listen yet: wait, or set `startup_timeout`"
)
CHECK_PLACE = "see that scheme, host and port of `base_url` (VLLM_BASE_URL) are vLLM's own"
WAIT = "wait until the model is loaded; with `startup_timeout: 600` sessions wait by themselves"
FRONT = "ask whoever runs what stands in front of it (a log-in, a bot check); `extra_headers` can carry what it wants"


@dataclass(frozen=True, slots=True)
class Way:
    """How requests get to a server."""

    host: str
    port: int
    proxy: str | None = None
    """Host and port of the proxy that the environment names for it."""

    def __str__(self) -> str:
        return _place(self.host, self.port) + (f" through the proxy {self.proxy}" if self.proxy else "")

    @property
    def around(self) -> str:
        """What to do if the proxy is the trouble."""
        return f"set NO_PROXY={self.host} if the server can be reached without the proxy {self.proxy}"


async def reach(server: Server, key_source: str) -> AsyncIterator[Finding]:
    """The connection, the key, the version and the models. Ends at the first that fails."""
    way = way_to(server.transport)
    trouble = await disconnected(way) or await _unlisted(server, way, key_source)
    if trouble is None or trouble.check != "reachable":
        yield ok("reachable", f"{way} answers")
    if trouble is not None and trouble.outcome is Outcome.FAIL:
        yield trouble
        return
    yield await _key(server, key_source)
    yield await _version(server)
    yield trouble or _models(server)


def transport_to(config: Config, key: str | None = None) -> Transport:
    """With the configured key, or with another. Raises `ValueError` for a URL that cannot be one."""
    url = normalized_url(config.base_url)
    headers = {
        name: value for name, value in config.extra_headers.items() if key is None or name.lower() != "authorization"
    }
    return Transport(url, config.api_key.get_secret_value() if key is None else key, headers, None)


def way_to(transport: Transport) -> Way:
    parts = urlsplit(transport.url)
    proxy = None if transport.is_local else proxy_before(transport.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Way(parts.hostname or "", port, None if proxy is None else _place(*_host_and_port(proxy)))


async def disconnected(way: Way) -> Finding | None:
    """Why there is no connection; None where there is one."""
    host, port = (way.host, way.port) if way.proxy is None else _host_and_port(way.proxy)
    place = _place(host, port)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except socket.gaierror as error:
        said, remedy = f"no such host: {host} ({error.strerror})", "correct the host in `base_url` (VLLM_BASE_URL)"
    except ConnectionRefusedError:
        said, remedy = f"nothing listens on {place}", START_VLLM
    except TimeoutError:
        said = f"{place} does not answer within {CONNECT_TIMEOUT:.0f} s"
        remedy = "check host and port, and what stands between here and there: firewall, VPN, security group"
    except (OSError, UnicodeError) as error:  # a host such as "a..b" is no name at all
        said, remedy = f"{place} cannot be reached: {error}", "check host and port, and the network between"
    else:
        writer.close()
        return None
    if way.proxy is not None:
        return fail("reachable", f"the proxy in front of the server: {said}", way.around)
    return fail("reachable", said, remedy)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(proxy: str) -> tuple[str, int]:
    """Of a proxy as the environment names it: a URL, or only its place."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


async def _unlisted(server: Server, way: Way, key_source: str) -> Finding | None:
    """Why the server does not list its models; None where it does."""
    try:
        await server.probe(ANSWER_TIMEOUT)
    except NotFoundError as error:
        return await _elsewhere(server, error)
    except AccessDeniedError as error:
        return fail("key", f"the server does not let us in: {error}", remedy_for(error))
    except AuthenticationError as error:
        return _locked(server.config, error, key_source)
    except LLMError as error:
        return await unusable(server.transport, way, error)
    return None


def _locked(config: Config, error: AuthenticationError, key_source: str) -> Finding:
    if "web page" in str(error):
        return fail("key", f"something in front of the server wants a log-in: {error}", FRONT)
    if _key_of(config) is None:
        return fail("key", "the server wants a key; none is set", KEY)
    return fail("key", f"the server refuses the key (from {key_source})", KEY)


async def _elsewhere(server: Server, error: NotFoundError) -> Finding:
    """A wrong path, or a gateway that lists nothing and answers all the same."""
    url = server.transport.url
    usual = urlunsplit(urlsplit(url)._replace(path="/v1"))
    if url != usual and await _lists_models(server.config.model_copy(update={"base_url": usual})):
        return fail("reachable", f"no API at {url}", f"set `base_url` (VLLM_BASE_URL) to {usual}")
    if server.config.default_model is not None:
        return note("models", f"{url} does not list its models ({error}), so that their limits are not known")
    said = f"no list of models at {url}/models ({error})"
    return fail("reachable", said, f"{RIGHT_PLACE}; one that lists no models needs `default_model`")


async def unusable(transport: Transport, way: Way, error: LLMError) -> Finding:
    """For a connection that came about, and an answer that was not what it should be."""
    match error:
        case NetworkError():
            said, remedy = _not_http(way, error)
        case LLMTimeoutError():
            said = f"{way} takes connections, but said nothing within {ANSWER_TIMEOUT:.0f} s"
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
    refused = next((cause for cause in causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if refused is not None:
        said = f"the certificate of {way} is not accepted: {refused.verify_message or refused.reason}"
        return said, "let SSL_CERT_FILE name the authority that signed it, or correct the host in `base_url`"
    broken = next((cause for cause in causes(error) if isinstance(cause, ssl.SSLError)), None)
    if broken is not None:
        said = f"{way} does not speak TLS as it should ({broken.reason or broken})"
        return said, "write `http://` in `base_url` (VLLM_BASE_URL) if the server has no TLS"
    said = f"{way} takes connections, but does not answer as an HTTP server does ({root_cause(error)})"
    return said, f"{CHECK_PLACE}; one with TLS needs `https://`"


async def _no_list(transport: Transport) -> str:
    try:
        text = await transport.get_text("/models", ANSWER_TIMEOUT)
    except LLMError as error:
        return str(error)
    if not text.lstrip().startswith("<"):
        return f"what {transport.url}/models gives is no list of models: {text.strip()[:80]!r}"
    return f"a web page answers at {transport.url}/models: {page_title(text) or 'untitled'}"


async def _key(server: Server, key_source: str) -> Finding:
    if _key_of(server.config) is None:
        return ok("key", "none asked for")
    if await _lists_models(server.config, NO_API_KEY):
        return ok("key", f"set (from {key_source}), but not asked for")
    return ok("key", f"accepted (from {key_source})")


async def _lists_models(config: Config, key: str | None = None) -> bool:
    transport = transport_to(config, key)
    try:
        await transport.model_cards(ANSWER_TIMEOUT)
    except LLMError:
        return False
    else:
        return True
    finally:
        await transport.close()


def _key_of(config: Config) -> str | None:
    key = config.api_key.get_secret_value()
    return None if key in ("", NO_API_KEY) else key


async def _version(server: Server) -> Finding:
    try:
        match await server.transport.get_root("/version", ANSWER_TIMEOUT):
            case {"version": str(version)}:
                return ok("version", f"vLLM {version}")
            case _:
                return note("version", "not told: a gateway answers, or no vLLM")
    except LLMError as error:
        return note("version", f"not told: a gateway answers, or no vLLM ({error})")


def _models(server: Server) -> Finding:
    described = ", ".join(_described(server, card.id) for card in server.cards) or "none"
    model = server.config.default_model
    if model is None and only_model(server.cards) is None:
        return fail("models", f"the server has several: {described}" if server.cards else "the server has none", CHOOSE)
    if model is not None and model not in [card.id for card in server.cards]:
        return note("models", f"{model} is not listed; the server has {described}", CHOOSE)
    return ok("models", described)


def _described(server: Server, model: str) -> str:
    limits = limits_of(model, server.cards, server.config)
    return f"{model} ({limits.context_window:,} tokens)" if limits.known else f"{model} (window not told)"
