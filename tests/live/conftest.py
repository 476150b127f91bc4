"""Real vLLM servers for the tests that need them, and providers and sessions that talk to them."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from amplifier_module_provider_vllm import VLLMProvider
from amplifier_module_provider_vllm._config import EndpointName
from tests.live import endpoints, servers
from tests.live.servers import ORDER, needs
from tests.rig.home import HOME_VARIABLE
from tests.rig.launch import Launch
from tests.rig.memory import MEMORY_VARIABLE
from tests.rig.pool import Pool, turn
from tests.rig.server import LiveServer
from tests.support.exchange import open_provider
from tests.support.session import Session, open_session, vllm
from tests.support.vocabulary import vocabulary_folder

RIG_VARIABLES = (HOME_VARIABLE, MEMORY_VARIABLE)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the live tests by their servers, so that few servers run at a time; others of the run come first."""
    items.sort(key=lambda item: turn(needs(item) if item.get_closest_marker("live") else (), ORDER))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "endpoint" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("endpoints")
        metafunc.parametrize("endpoint", endpoints.parameters(marker), indirect=True)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


@pytest.fixture(autouse=True)
def _servers_are_up(request: pytest.FixtureRequest, pool: Pool) -> Iterator[None]:
    """Start the servers of this test; stop those that no later test needs."""
    items, needed = request.session.items, needs(request.node)
    if any(launch not in pool for launch in needed):
        with _output_not_captured(request.config):
            pool.ensure(needed)
    yield
    later = items[items.index(request.node) + 1 :]
    pool.keep({launch for item in later for launch in needs(item)})


@contextmanager
def _output_not_captured(config: pytest.Config) -> Iterator[None]:
    """Show the rig's progress, since a server takes half a minute to start, or waits for memory."""
    config.pluginmanager.getplugin("terminalreporter").ensure_newline()
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        yield


# Parametrised even with one server: the parameter is what `needs` reads, its id names the model in the summary.
def _server_fixture(*launches: Launch) -> Callable[..., LiveServer]:
    @pytest.fixture(params=launches, ids=[launch.model for launch in launches])
    def server(request: pytest.FixtureRequest, pool: Pool) -> LiveServer:
        return pool[request.param]

    return server


server = _server_fixture(servers.QWEN, servers.GPT_OSS)
qwen = _server_fixture(servers.QWEN)
gpt_oss = _server_fixture(servers.GPT_OSS)
storing_server = _server_fixture(servers.STORING_QWEN, servers.STORING_GPT_OSS)
storing_qwen = _server_fixture(servers.STORING_QWEN)
locked_server = _server_fixture(servers.LOCKED)
locked_and_bare = _server_fixture(servers.LOCKED_AND_BARE)
without_parsers = _server_fixture(servers.WITHOUT_PARSERS)
without_reasoning_parser = _server_fixture(servers.WITHOUT_REASONING_PARSER)
without_tool_parser = _server_fixture(servers.WITHOUT_TOOL_PARSER)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's own vLLM variables and proxy."""
    for variable in [name for name in os.environ if name.startswith("VLLM_") and name not in RIG_VARIABLES]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("no_proxy", raising=False)


@pytest.fixture
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vocabulary by which gpt-oss is read, and continued, from token ids."""
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> EndpointName:
    """The endpoint to ask, with what it needs."""
    asked: EndpointName = request.param
    if asked != "responses":
        request.getfixturevalue("vocabulary")
    return asked


@pytest.fixture
async def provider(server: LiveServer, endpoint: EndpointName) -> AsyncIterator[VLLMProvider]:
    async with open_provider(server.base_url, endpoint=endpoint) as provider:
        yield provider


@pytest.fixture
async def session(server: LiveServer, endpoint: EndpointName) -> AsyncIterator[Session]:
    async with open_session(vllm(server.base_url, temperature=0, endpoint=endpoint)) as session:
        yield session
