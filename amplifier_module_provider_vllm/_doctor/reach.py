"""Check that a server can be reached at all, that it lets us in, and what it serves."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

from amplifier_core.llm_errors import AccessDeniedError, AuthenticationError, LLMError, NotFoundError

from .._config import Config
from .._constants import CONNECT_TIMEOUT, DEFAULT_BASE_URL, NO_API_KEY
from .._limits import limits_of
from .._server import Server
from .._wire.client import Transport
from .._wire.url import normalized_url
from .connection import Way, disconnected, way_to
from .findings import Finding, Outcome, fail, note, ok
from .remedies import KEY, remedy_for
from .strangers import FRONT, unusable

CHOOSE = "set `default_model` (here: --model) to the one to ask"
RIGHT_PLACE = "`base_url` (VLLM_BASE_URL) must name the `/v1` of a vLLM server"


def transport_to(config: Config, key: str | None = None) -> Transport:
    """With the configured key, or with another. Raises `ValueError` for a URL that cannot be one."""
    url = normalized_url(config.base_url or DEFAULT_BASE_URL)
    headers = {
        name: value for name, value in config.extra_headers.items() if key is None or name.lower() != "authorization"
    }
    return Transport(url, config.api_key.get_secret_value() if key is None else key, headers, None)


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


async def _unlisted(server: Server, way: Way, key_source: str) -> Finding | None:
    """Why the server does not list its models; None where it does."""
    try:
        await server.probe(CONNECT_TIMEOUT)
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


async def _key(server: Server, key_source: str) -> Finding:
    if _key_of(server.config) is None:
        return ok("key", "none asked for")
    if await _lists_models(server.config, NO_API_KEY):
        return ok("key", f"set (from {key_source}), but not asked for")
    return ok("key", f"accepted (from {key_source})")


async def _lists_models(config: Config, key: str | None = None) -> bool:
    transport = transport_to(config, key)
    try:
        await transport.model_cards(CONNECT_TIMEOUT)
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
        match await server.transport.get_root("/version", CONNECT_TIMEOUT):
            case {"version": str(version)}:
                return ok("version", f"vLLM {version}")
            case _:
                return note("version", "not told: a gateway answers, or no vLLM")
    except LLMError as error:
        return note("version", f"not told: a gateway answers, or no vLLM ({error})")


def _models(server: Server) -> Finding:
    described = ", ".join(_described(server, card.id) for card in server.cards) or "none"
    model = server.config.default_model
    base_models = [card.id for card in server.cards if card.parent is None]
    if model is None and len(base_models) != 1:
        return fail("models", f"the server has several: {described}" if base_models else "the server has none", CHOOSE)
    if model is not None and model not in [card.id for card in server.cards]:
        return note("models", f"{model} is not listed; the server has {described}", CHOOSE)
    return ok("models", described)


def _described(server: Server, model: str) -> str:
    limits = limits_of(model, server.cards, server.config)
    return f"{model} ({limits.context_window:,} tokens)" if limits.known else f"{model} (window not told)"
