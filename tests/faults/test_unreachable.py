"""An unreachable or untrusted server is reported, and retried as long as that can help."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from amplifier_core.llm_errors import LLMError, LLMTimeoutError, NetworkError

from amplifier_module_provider_vllm import _retries
from tests.support.call_events import EventCounts, assert_contract, event_counts
from tests.support.exchange import block_contents, mounted_provider
from tests.support.provider_session import CITIES, HANG_TIMEOUT, SHORT_RETRY_DELAY, provider_session
from tests.support.replay import ReplayServer
from tests.support.session import open_session, vllm
from tests.support.speaker import Answer
from tests.support.speech import ANSWER_TEXT
from tests.support.wire import HEALTHY

CERTIFICATE: Final = Path(__file__).parent.parent / "support" / "self_signed.pem"
"""A self-signed certificate for 127.0.0.1, for these tests only."""

KNOWN: Final[dict[str, Any]] = {**SHORT_RETRY_DELAY, "default_model": "tiny-qwen3", "max_retries": 2}

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


@pytest.fixture
def closed_url() -> str:
    """The URL of a closed port."""
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"


@pytest.fixture
def full_url() -> Iterator[str]:
    """The URL of a port whose queue is full: the kernel accepts no more connections."""
    with closing(socket.socket()) as listening, closing(socket.socket()) as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting.connect(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@both_ways
async def test_a_refused_connection_is_retried_and_reported(closed_url: str, answer: Answer, stream: bool) -> None:
    failure, counts = await run_refused_call(closed_url, use_streaming=stream, endpoint=answer.endpoint)

    assert str(failure).startswith(f"no connection to {closed_url} (ConnectionRefusedError")
    assert (failure.provider, failure.model, failure.status_code) == ("vllm", "tiny-qwen3", None)
    assert counts == EventCounts(1, ["error"], retries=2, aborted=0)


@pytest.mark.parametrize(
    ("config", "allowed"),
    [({}, [3, 3, 3]), ({"max_retries": 2}, [2, 2]), ({"startup_timeout": 1.6}, [5] * 5)],
    ids=["given up early", "fewer retries", "may be starting"],
)
async def test_the_retry_events_of_an_unreachable_server_say_how_many_retries_it_gets(
    closed_url: str, config: dict[str, Any], allowed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_retries, "CONNECT_TIMEOUT", 0.5)
    plan = {"min_retry_delay": 0.05, "max_retries": 5, "retry_jitter": False, "default_model": "tiny-qwen3"}

    async with open_session(vllm(closed_url, **{**plan, **config})) as session:
        with pytest.raises(NetworkError):
            await mounted_provider(session).complete(CITIES)

    assert [data["max_retries"] for data in session.payloads("provider:retry")] == allowed


async def test_a_connection_refused_before_the_model_is_known_emits_one_response(closed_url: str) -> None:
    failure, counts = await run_refused_call(closed_url, default_model=None)

    assert str(failure).startswith(f"no connection to {closed_url} (ConnectionRefusedError")
    assert counts == EventCounts(0, ["error"], retries=2, aborted=0)


@both_ways
async def test_an_unknown_host_name_is_reported(stream: bool) -> None:
    failure, counts = await run_refused_call("http://nonexistent.invalid", use_streaming=stream)

    assert str(failure).startswith("no connection to http://nonexistent.invalid/v1 (")
    assert counts == EventCounts(1, ["error"], retries=2, aborted=0)


@both_ways
async def test_a_full_connection_queue_is_reported(full_url: str, stream: bool) -> None:
    failure, counts = await run_refused_call(full_url, use_streaming=stream, stream_idle_timeout=0.3, max_retries=1)

    assert isinstance(failure, NetworkError | LLMTimeoutError)
    assert counts == EventCounts(1, ["error"], retries=1, aborted=0)


async def test_a_self_signed_certificate_is_rejected() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)

    async with ReplayServer(always=HEALTHY[True], tls=tls) as server:
        failure, counts = await run_refused_call(server.base_url, api_key="sk-canary")

    assert "CERTIFICATE_VERIFY_FAILED" in str(failure)
    assert counts == EventCounts(1, ["error"], retries=2, aborted=0)
    assert server.requests == []


async def test_a_certificate_trusted_by_the_operator_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    async with ReplayServer(HEALTHY[True], tls=tls) as server, provider_session(server) as (_, provider):
        reply = await provider.complete(CITIES)

    assert block_contents(reply)[-1] == ("text", ANSWER_TEXT)


async def test_a_session_waits_for_its_server_to_start(answer: Answer) -> None:
    async with ReplayServer() as reserved:
        place = reserved.base_url
    config: dict[str, Any] = {
        "endpoint": answer.endpoint,
        "startup_timeout": HANG_TIMEOUT,
        "max_retries": 0,
        "min_retry_delay": 0.05,
        "max_retry_delay": 0.1,
    }

    async with asyncio.timeout(HANG_TIMEOUT), open_session(vllm(place, **config)) as session:
        call = asyncio.create_task(mounted_provider(session).complete(CITIES))
        while not session.payloads("provider:retry"):  # noqa: ASYNC110 - the session has no signal for it
            await asyncio.sleep(0.01)
        port = int(place.rpartition(":")[2].partition("/")[0])
        async with ReplayServer(answer.sse(), port=port):
            reply = await call

    assert block_contents(reply)[-1] == ("text", ANSWER_TEXT)
    assert event_counts(session).statuses == ["ok"]
    assert {data["error_type"] for data in session.payloads("provider:retry")} == {"NetworkError"}
    assert_contract(session, reply)


async def run_refused_call(url: str, **config: Any) -> tuple[LLMError, EventCounts]:
    """The error of a call to this server, and its event counts."""
    async with asyncio.timeout(HANG_TIMEOUT), open_session(vllm(url, **{**KNOWN, **config})) as session:
        with pytest.raises((NetworkError, LLMTimeoutError)) as raised:
            await mounted_provider(session).complete(CITIES)
    assert_contract(session, None)
    return raised.value, event_counts(session)
