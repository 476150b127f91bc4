"""Real vLLM servers for a whole test run, and providers and sessions that talk to them."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from amplifier_module_provider_vllm import VLLMProvider
from bench.prefix_cache import RETAINING
from tests.rig.home import HOME_VARIABLE
from tests.rig.launch import Launch
from tests.rig.models import TINY_MODELS
from tests.rig.prompts import RENDERING
from tests.rig.server import LiveServer, serving_all, serving_launches
from tests.support.exchange import connected
from tests.support.session import Session, open_session, vllm


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, LiveServer]]:
    """Every tiny model's server: started side by side, or found running."""
    with serving_all(list(TINY_MODELS)) as running:
        yield {server.model: server for server in running}


# Parametrised with one model too, because the summary counts a test for the model that its id names.
@pytest.fixture(scope="session", params=list(TINY_MODELS))
def server(request: pytest.FixtureRequest, servers: dict[str, LiveServer]) -> LiveServer:
    return servers[request.param]


@pytest.fixture(scope="session", params=["tiny-qwen3"])
def qwen(request: pytest.FixtureRequest, servers: dict[str, LiveServer]) -> LiveServer:
    return servers[request.param]


@pytest.fixture(scope="session", params=["tiny-gpt-oss"])
def gpt_oss(request: pytest.FixtureRequest, servers: dict[str, LiveServer]) -> LiveServer:
    return servers[request.param]


@pytest.fixture(scope="session")
def storing_servers() -> Iterator[dict[str, LiveServer]]:
    """The same models behind servers that keep replies, tell what a prompt's tokens are, and cache all of them."""
    flags = {"tiny-qwen3": RENDERING, "tiny-gpt-oss": RETAINING}
    with serving_launches([Launch(model, store=True, extra_flags=flags[model]) for model in TINY_MODELS]) as running:
        yield {server.model: server for server in running}


@pytest.fixture(scope="session", params=list(TINY_MODELS))
def storing_server(request: pytest.FixtureRequest, storing_servers: dict[str, LiveServer]) -> LiveServer:
    return storing_servers[request.param]


@pytest.fixture(autouse=True)
def _nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the server that they use otherwise nor the proxy that they reach the internet through."""
    for variable in [name for name in os.environ if name.startswith("VLLM_") and name != HOME_VARIABLE]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("no_proxy", raising=False)


@pytest.fixture
async def provider(server: LiveServer) -> AsyncIterator[VLLMProvider]:
    async with connected(server.base_url) as provider:
        yield provider


@pytest.fixture
async def session(server: LiveServer) -> AsyncIterator[Session]:
    async with open_session(vllm(server.base_url, temperature=0)) as session:
        yield session
