"""A key is sent only to the server it was stated for, and nothing of `OPENAI_*` is sent anywhere."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from amplifier_core.llm_errors import ConfigurationError

from amplifier_module_provider_vllm import VLLMProvider
from amplifier_module_provider_vllm._cli import main
from tests.support.doctor import run_doctor
from tests.support.exchange import CAPITAL, mounted_provider
from tests.support.provider_session import CITIES, provider_session
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer
from tests.support.session import open_session, vllm
from tests.support.wire import HEALTHY

KEY: Final = "sk-of-the-second-server"
CANARY: Final = "openai-canary-31c7"
SDK_VARIABLES: Final = sorted(
    {
        name
        for source in Path(openai.__file__).parent.rglob("*.py")
        for name in re.findall(r"(?<![A-Z_])OPENAI_[A-Z_]+\b", source.read_text())
    }
)
"""Every variable that the installed SDK may read, and a few constants of it."""


pytestmark = pytest.mark.usefixtures("key_in_the_environment")


@pytest.fixture
def key_in_the_environment(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("VLLM_API_KEY", KEY)


@asynccontextmanager
async def servers(number: int) -> AsyncIterator[list[ReplayServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ReplayServer(always=HEALTHY[True])) for _ in range(number)]


def keys(server: ReplayServer) -> set[str | None]:
    """The Authorization headers that a server got, on every path; it was asked something."""
    assert server.requests
    return {request.headers.get("authorization") for request in server.requests}


async def answer(*entries: dict[str, Any]) -> None:
    """Ask each of the providers in one session."""
    async with open_session(*entries) as session:
        for entry in entries:
            provider = mounted_provider(session, entry.get("instance_id", "vllm"))
            await provider.complete(CAPITAL)
            await provider.request_budget(CAPITAL, context_estimate=1)


@pytest.mark.parametrize("written", [KEY, "${VLLM_API_KEY}"], ids=["resolved", "as written"])
@pytest.mark.parametrize("empty", [{}, {"api_key": ""}, {"api_key": None}], ids=["absent", "empty", "null"])
async def test_the_key_of_the_second_server_is_not_sent_to_the_first(written: str, empty: dict[str, Any]) -> None:
    async with servers(2) as (first, second):
        await answer(vllm(first.base_url, "one", **empty), vllm(second.base_url, "two", api_key=written))

    assert keys(first) == {None}
    assert keys(second) == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("variable", "entry", "is_same"),
    [
        ("http://127.0.0.1:{port}/v1", "http://127.0.0.1:{port}/v1", True),
        ("http://127.0.0.1:{port}", "http://127.0.0.1:{port}/v1/", True),
        ("HTTP://LocalHost:{port}/", "http://localhost:{port}/v1", True),
        ("http://me:pw@127.0.0.1:{port}", "http://127.0.0.1:{port}/v1", True),
        ("http://localhost:{port}/v1", "http://127.0.0.1:{port}/v1", False),
        ("http://127.0.0.1:1/v1", "http://127.0.0.1:{port}/v1", False),
        ("http://127.0.0.1:{port}/team-a/v1", "http://127.0.0.1:{port}/v1", False),
        ("https://127.0.0.1:{port}/v1", "http://127.0.0.1:{port}/v1", False),
        ("not a URL", "http://127.0.0.1:{port}/v1", False),
        ("", "http://127.0.0.1:{port}/v1", False),
    ],
)
async def test_the_variable_is_the_key_of_the_server_of_vllm_base_url_alone(
    variable: str, entry: str, is_same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers(1) as (server,):
        port = server.base_url.rpartition(":")[2].removesuffix("/v1")
        monkeypatch.setenv("VLLM_BASE_URL", variable.format(port=port))
        await answer(vllm(entry.format(port=port), default_model="tiny-qwen3"))

    assert keys(server) == ({f"Bearer {KEY}"} if is_same else {None})


async def test_an_entry_without_a_url_is_asked_with_the_key_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with servers(1) as (server,):
        monkeypatch.setenv("VLLM_BASE_URL", server.base_url)
        await answer({"module": "provider-vllm", "config": {}})

    assert keys(server) == {f"Bearer {KEY}"}


async def test_a_server_without_a_key_gets_no_authorization_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY")
    async with servers(2) as (silent, named):
        await answer(vllm(silent.base_url, "one"), vllm(named.base_url, "two", api_key="EMPTY"))

    assert keys(silent) == keys(named) == {None}


@pytest.mark.parametrize("place", ["config", "argument"])
@pytest.mark.parametrize("base_url", ["http://gpu:8000", None], ids=["stated URL", "URL of the variable"])
def test_a_variable_that_nothing_resolved_is_named_and_never_sent(
    place: str, base_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", "http://gpu:8000")
    key: dict[str, Any] = {"api_key": "${TEAM_KEY}"}

    with pytest.raises(ConfigurationError, match=r"config key 'api_key' names the variable TEAM_KEY, which is not set"):
        VLLMProvider(base_url, **({"config": key} if place == "config" else key))


@pytest.mark.parametrize(
    "config",
    [
        {"extra_headers": {"X-Key": "Key ${TEAM_KEY}"}},
        {"base_url": "http://${TEAM_KEY}@gpu:8000"},
        {"hosted_tools": [{"type": "mcp", "server_label": "docs", "headers": {"Authorization": "Bearer ${TEAM_KEY}"}}]},
    ],
    ids=["header", "URL", "hosted tool"],
)
def test_a_header_url_or_hosted_tool_with_an_unresolved_variable_is_refused_too(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"config key '{next(iter(config))}' names the variable TEAM_KEY"):
        VLLMProvider(config={"base_url": "http://gpu:8000"} | config)


async def test_a_variable_that_is_set_is_resolved_in_headers_and_hosted_tools_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEAM_KEY", "t-1234")
    tool = {"type": "mcp", "server_label": "docs", "headers": {"X-Team": "Key ${TEAM_KEY}"}}
    async with servers(1) as (server,):
        await answer(vllm(server.base_url, extra_headers={"X-Team": "Key ${TEAM_KEY}"}, hosted_tools=[tool]))

    assert {request.headers["x-team"] for request in server.requests} == {"Key t-1234"}
    assert [body["tools"][-1]["headers"] for body in server.request_bodies] == [{"X-Team": "Key t-1234"}]


@pytest.mark.parametrize("config", [{}, {"api_key": KEY}], ids=["no key", "key"])
@pytest.mark.parametrize("authorization", ["Authorization", "authorization", "AUTHORIZATION"])
async def test_no_variable_of_the_sdk_reaches_the_server(
    config: dict[str, Any], authorization: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in {*SDK_VARIABLES, "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"} - {"OPENAI_LOG"}:
        monkeypatch.setenv(name, CANARY)
    custom = [f"{authorization}: Bearer {CANARY}", f"X-Other: {CANARY}", f"x-TEAM: {CANARY}"]
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "\n".join(custom))

    async with (
        ReplayServer(HEALTHY[True]) as server,
        provider_session(server, extra_headers={"X-Team": "ours"}, **config) as (_, provider),
    ):
        await provider.complete(CITIES, extra_headers={"X-Call": "this"})

    sent = [(name, value) for request in server.requests for name, value in request.headers.items()]
    assert {"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"} <= set(SDK_VARIABLES)
    assert [one for one in sent if CANARY in one[1] or one[0].startswith(("openai-", "x-other"))] == []
    assert keys(server) == {f"Bearer {KEY}" if config else None}
    assert {value for name, value in sent if name == "x-team"} == {"ours"}
    assert ("x-call", "this") in sent
    assert CANARY not in caplog.text


async def test_a_custom_client_keeps_its_own_key() -> None:
    async with servers(1) as (server,):
        client = openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-of-the-client")
        provider = VLLMProvider(client=client)
        await provider.complete(CAPITAL)
        await client.close()

    assert keys(server) == {"Bearer sk-of-the-client"}


async def test_the_doctor_sends_no_key_that_an_entry_does_not_state() -> None:
    async with servers(1) as (server,):
        findings = await run_doctor(server.base_url)

    assert keys(server) == {None}
    assert findings["key"].message == "not required"


async def test_the_doctor_says_why_the_variable_is_not_used() -> None:
    async with ReplayServer(models=load_recording("tiny-qwen3-auth", "auth_models_wrong")) as server:
        findings = await run_doctor(server.base_url)

    assert findings["key"].message == "the server requires a key; none is set"
    assert findings["key"].remedy == (
        "write `api_key: ${VLLM_API_KEY}`, if that is its key: the variable alone is the key of VLLM_BASE_URL"
    )


@pytest.mark.parametrize("other", [None, "http://127.0.0.1:1"], ids=["no VLLM_BASE_URL", "VLLM_BASE_URL of another"])
async def test_the_doctors_command_sends_the_variable_unless_it_is_another_servers(
    other: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if other is not None:
        monkeypatch.setenv("VLLM_BASE_URL", other)

    async with servers(1) as (server,):
        await asyncio.to_thread(main, ["doctor", server.base_url])

    without_it = None  # the doctor asks without the key, too, to say whether it is needed
    assert keys(server) == ({f"Bearer {KEY}", without_it} if other is None else {None})
