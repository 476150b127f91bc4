"""Check that a server can be reached at all, and that it lets us in."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from amplifier_core.llm_errors import AuthenticationError, LLMError, NotFoundError, ProviderUnavailableError

from .._constants import CONNECT_TIMEOUT
from .._limits import limits_of
from .._server import Server
from .findings import Finding, fail, note, ok

START_VLLM = "start it with `vllm serve MODEL`, or set `base_url` (VLLM_BASE_URL) to where it runs"


async def reach(server: Server) -> AsyncIterator[Finding]:
    """Name, port and certificate, then the key, the version and the models. Ends at the first that fails."""
    try:
        yield await _connected(server.transport.url)
        yield await _listed(server)
    except _Stop as stop:
        yield stop.finding
        return
    yield await _version(server)
    yield _models(server)


class _Stop(Exception):  # noqa: N818  # not an error: the finding after which nothing more can be found out
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.said)
        self.finding = finding


async def _connected(url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=secure)
    except socket.gaierror as error:
        raise _Stop(
            fail("reachable", f"no such host: {host} ({error.strerror})", "correct the host in `base_url`")
        ) from error
    except ssl.SSLError as error:
        why = f"the certificate of {host}:{port} is not accepted ({error.reason or error})"
        remedy = "use `http://` if the server has no TLS; give SSL_CERT_FILE the authority that signed its certificate"
        raise _Stop(fail("reachable", why, remedy)) from error
    except ConnectionRefusedError as error:
        raise _Stop(fail("reachable", f"nothing listens on {host}:{port}", START_VLLM)) from error
    except TimeoutError as error:
        why = f"{host}:{port} does not answer within {CONNECT_TIMEOUT:.0f} s"
        raise _Stop(fail("reachable", why, "check the firewall between here and there, and the port")) from error
    except OSError as error:
        raise _Stop(fail("reachable", f"{host}:{port}: {error}", START_VLLM)) from error
    writer.close()
    return ok("reachable", f"{host}:{port} answers")


async def _listed(server: Server) -> Finding:
    try:
        await server.probe(CONNECT_TIMEOUT)
    except AuthenticationError as error:
        said = f"the server refused the key (status {error.status_code})"
        raise _Stop(fail("key", said, "set `api_key` (VLLM_API_KEY) to the server's `--api-key`")) from error
    except NotFoundError as error:
        said = f"{server.transport.url}/models is not there: {error}"
        raise _Stop(fail("key", said, "`base_url` must name the server's `/v1`")) from error
    except ProviderUnavailableError as error:
        remedy = "wait until the model is loaded; `startup_timeout` makes sessions wait by themselves"
        raise _Stop(fail("key", f"the server is not ready: {error}", remedy)) from error
    except LLMError as error:
        remedy = "see that `base_url` names a vLLM server, not a proxy's own page"
        raise _Stop(fail("key", str(error), remedy)) from error
    return ok("key", "accepted, or none needed")


async def _version(server: Server) -> Finding:
    try:
        match await server.transport.beside("/version", CONNECT_TIMEOUT):
            case {"version": str(version)}:
                return ok("version", f"vLLM {version}")
            case _:
                return note("version", "the server does not tell a vLLM version: a gateway, or not vLLM")
    except LLMError as error:
        return note("version", f"the server does not tell a vLLM version ({error})")


def _models(server: Server) -> Finding:
    described = [
        f"{card.id} ({limits_of(card.id, server.cards, server.config).context_window} tokens)" for card in server.cards
    ]
    model = server.config.default_model
    names = [card.id for card in server.cards]
    if model is not None and model not in names:
        return fail(
            "models", f"the server has {', '.join(described)}, not {model}", "set `default_model` to one of them"
        )
    if model is None and len([card for card in server.cards if card.parent is None]) != 1:
        return fail(
            "models", f"the server has {', '.join(described) or 'none'}", "set `default_model` to the one to ask"
        )
    return ok("models", ", ".join(described))
