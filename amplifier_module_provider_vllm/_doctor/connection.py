"""Check that something listens where the server should be, or at the proxy in front of it."""

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from .._constants import CONNECT_TIMEOUT
from .._wire.client import Transport
from .._wire.http import proxy_before
from .findings import Finding, fail

START_VLLM = (
    "start it with `vllm serve MODEL`, or set `base_url` (VLLM_BASE_URL) to where it runs; a vLLM that is still loading"
    " its model does not listen yet: wait, or set `startup_timeout`"
)


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
