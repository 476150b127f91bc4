"""Check that a server can be reached, that it accepts the key, and which models it serves."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from amplifier_core.llm_errors import (
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
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
from .._wire.environment import proxy_before
from .._wire.url import PORTS, normalized_url
from .findings import CHOOSE_MODEL, SERVER_LOG, SET_KEY, Finding, Outcome, fail, note, ok, remedy_for

V1_URL = "`base_url` (VLLM_BASE_URL) must name the `/v1` of a vLLM server"
START_VLLM = (
    "start it with `vllm serve MODEL`, or set `base_url` (VLLM_BASE_URL) to where it runs; a vLLM that is still loading"
    " its model does not listen yet: wait, or set `startup_timeout`"
)
CHECK_URL = "check that scheme, host and port in `base_url` (VLLM_BASE_URL) are those of vLLM"
NAME_KEY_VARIABLE = (
    "write `api_key: ${VLLM_API_KEY}`, if that is its key: the variable alone is the key of VLLM_BASE_URL"
)
CORRECT_VARIABLE = "correct or unset this variable; servers in NO_PROXY are asked without a proxy"
WAIT = "wait until the model is loaded; with `startup_timeout: 600` a session waits by itself"
ASK_GATEWAY = (
    "ask the operator of the gateway in front of it (login, bot check); `extra_headers` can carry what it requires"
)


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a server: directly, or through a proxy."""

    host: str
    port: int
    proxy: str | None = None
    """Host and port of the proxy that the environment names for it."""

    def __str__(self) -> str:
        return _address(self.host, self.port) + (f" through the proxy {self.proxy}" if self.proxy else "")

    @property
    def bypass(self) -> str:
        """What to do if the proxy is at fault."""
        return f"set NO_PROXY={self.host} if the server can be reached without the proxy {self.proxy}"


async def check_reachability(server: Server, key_source: str) -> AsyncIterator[Finding]:
    """The connection, the key, the version and the models. Ends at the first that fails."""
    try:
        _ = server.transport.client
    except ConfigurationError as error:  # a proxy or certificates of the environment
        yield fail("reachable", str(error), CORRECT_VARIABLE)
        return
    route = route_to(server.transport)
    failure = await _connection_failure(route) or await _listing_failure(server, route, key_source)
    if failure is None or failure.check != "reachable":
        yield ok("reachable", f"{route} answers")
    if failure is not None and failure.outcome is Outcome.FAIL:
        yield failure
        return
    yield await _check_key(server, key_source)
    yield await _check_version(server)
    yield failure or _check_models(server)


def transport_to(config: Config, key: str | None = None) -> Transport:
    """The transport with the configured key, or with `key`. Raises `ValueError` for an invalid URL."""
    url = normalized_url(config.base_url)
    headers = {
        name: value for name, value in config.extra_headers.items() if key is None or name.lower() != "authorization"
    }
    key = config.api_key.get_secret_value() if key is None else key
    return Transport(url, key, headers, None, config.stated_tools)


def route_to(transport: Transport) -> Route:
    parts = urlsplit(transport.url)
    proxy = None if transport.is_local else proxy_before(transport.url)
    port = parts.port or PORTS[parts.scheme]
    return Route(parts.hostname or "", port, None if proxy is None else _address(*_host_and_port(proxy)))


async def _connection_failure(route: Route) -> Finding | None:
    """Why there is no connection; None if there is one."""
    host, port = (route.host, route.port) if route.proxy is None else _host_and_port(route.proxy)
    address = _address(host, port)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except socket.gaierror as error:
        message, remedy = f"no such host: {host} ({error.strerror})", "correct the host in `base_url` (VLLM_BASE_URL)"
    except ConnectionRefusedError:
        message, remedy = f"nothing listens on {address}", START_VLLM
    except TimeoutError:
        message = f"{address} does not answer within {CONNECT_TIMEOUT:.0f} s"
        remedy = "check host and port, and the network between: firewall, VPN, security group"
    except (OSError, UnicodeError) as error:  # a host such as "a..b" is no name at all
        message, remedy = f"{address} cannot be reached: {error}", "check host and port, and the network between"
    else:
        writer.close()
        return None
    if route.proxy is not None:
        return fail("reachable", f"the proxy in front of the server: {message}", route.bypass)
    return fail("reachable", message, remedy)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(proxy: str) -> tuple[str, int]:
    """Of a proxy in the environment, which may be a URL or only an address."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 80)


async def _listing_failure(server: Server, route: Route, key_source: str) -> Finding | None:
    """Why the server does not list its models; None if it does."""
    try:
        await server.probe(ANSWER_TIMEOUT)
    except NotFoundError as error:
        return await _path_failure(server, error)
    except AccessDeniedError as error:
        return fail("key", f"the server denies access: {error}", remedy_for(error))
    except AuthenticationError as error:
        return _key_failure(server.config, error, key_source)
    except LLMError as error:
        return await _answer_failure(server.transport, route, error)
    return None


def _key_failure(config: Config, error: AuthenticationError, key_source: str) -> Finding:
    if "web page" in str(error):
        return fail("key", f"a gateway in front of the server requires a login: {error}", ASK_GATEWAY)
    if _key_of(config) is None:
        remedy = NAME_KEY_VARIABLE if os.environ.get("VLLM_API_KEY") else SET_KEY
        return fail("key", "the server requires a key; none is set", remedy)
    return fail("key", f"the server rejects the key (from {key_source})", SET_KEY)


async def _path_failure(server: Server, error: NotFoundError) -> Finding:
    """A wrong path, or a gateway that does not list its models but serves them."""
    url = server.transport.url
    usual = urlunsplit(urlsplit(url)._replace(path="/v1"))
    if url != usual and await _lists_models(server.config.model_copy(update={"base_url": usual})):
        return fail("reachable", f"no API at {url}", f"set `base_url` (VLLM_BASE_URL) to {usual}")
    if server.config.default_model is not None:
        return note("models", f"{url} does not list its models ({error}); their limits are unknown")
    message = f"no list of models at {url}/models ({error})"
    return fail("reachable", message, f"{V1_URL}; a server that lists no models needs `default_model`")


async def _answer_failure(transport: Transport, route: Route, error: LLMError) -> Finding:
    """Why a server that accepts connections does not list its models."""
    match error:
        case NetworkError():
            message, remedy = _protocol_failure(route, error)
        case LLMTimeoutError():
            message = f"{route} accepts connections, but sent nothing within {ANSWER_TIMEOUT:.0f} s"
            remedy = f"{SERVER_LOG}: it is overloaded, or stuck. Or {CHECK_URL}"
        case StreamError():
            message, remedy = await _unexpected_answer(transport), CHECK_URL
        case ProviderUnavailableError(status_code=403):
            message, remedy = f"a gateway in front of the server rejected the request: {error}", ASK_GATEWAY
        case ProviderUnavailableError(status_code=502 | 504):
            message = f"a gateway answers, but vLLM behind it does not: {error}"
            remedy = f"start vLLM behind it, or {WAIT}"
        case ProviderUnavailableError(status_code=500):
            message, remedy = f"the server answers with an error: {error}", SERVER_LOG
        case ProviderUnavailableError():
            message, remedy = f"the server is not ready: {error}", WAIT
        case InvalidRequestError():
            message, remedy = f"{route} answers, but not like vLLM: {error}", CHECK_URL
        case _:
            message, remedy = str(error), remedy_for(error)
    return fail("reachable", message, remedy if route.proxy is None else f"{remedy}. Or {route.bypass}")


def _protocol_failure(route: Route, error: NetworkError) -> tuple[str, str]:
    rejected = next((cause for cause in causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if rejected is not None:
        message = f"the certificate of {route} is not accepted: {rejected.verify_message or rejected.reason}"
        return message, "let SSL_CERT_FILE name the authority that signed it, or correct the host in `base_url`"
    failed = next((cause for cause in causes(error) if isinstance(cause, ssl.SSLError)), None)
    if failed is not None:
        message = f"the TLS handshake with {route} failed ({failed.reason or failed})"
        return message, "write `http://` in `base_url` (VLLM_BASE_URL) if the server has no TLS"
    message = f"{route} accepts connections, but does not speak HTTP ({root_cause(error)})"
    return message, f"{CHECK_URL}; a server with TLS needs `https://`"


async def _unexpected_answer(transport: Transport) -> str:
    try:
        text = await transport.get_text("/models", ANSWER_TIMEOUT)
    except LLMError as error:
        return str(error)
    if not text.lstrip().startswith("<"):
        return f"{transport.url}/models returned no list of models: {text.strip()[:80]!r}"
    return f"a web page answers at {transport.url}/models: {page_title(text) or 'untitled'}"


async def _check_key(server: Server, key_source: str) -> Finding:
    if _key_of(server.config) is None:
        return ok("key", "not required")
    if await _lists_models(server.config, NO_API_KEY):
        return ok("key", f"set (from {key_source}), but not required")
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


async def _check_version(server: Server) -> Finding:
    try:
        match await server.transport.get_root("/version", ANSWER_TIMEOUT):
            case {"version": str(version)}:
                return ok("version", f"vLLM {version}")
            case _:
                return note("version", "unknown: a gateway, or not vLLM")
    except LLMError as error:
        return note("version", f"unknown: a gateway, or not vLLM ({error})")


def _check_models(server: Server) -> Finding:
    if not server.cards and server.config.default_model is None:
        return fail("models", "the server has no models", CHOOSE_MODEL)
    summaries = ", ".join(_summary(server, card.id) for card in server.cards) or "none"
    model = server.config.default_model
    if model is None and only_model(server.cards) is None:
        return fail("models", f"the server has several models: {summaries}", CHOOSE_MODEL)
    return ok("models", summaries)


def _summary(server: Server, model: str) -> str:
    limits = limits_of(model, server.cards, server.config)
    return f"{model} ({limits.context_window:,} tokens)" if limits.from_server else f"{model} (window unknown)"
