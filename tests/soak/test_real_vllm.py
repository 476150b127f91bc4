"""Real vLLM, killed in mid-stream, restarted, or not yet started: the session completes its turn by itself."""

import asyncio
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.soak.own_server import OwnServer
from tests.support.call_events import attempts, streamed_text
from tests.support.session import Session, open_session, vllm

pytestmark = pytest.mark.soak

MODEL: Final = "tiny-gpt-oss"
"""It streams token by token; a stream of tiny-qwen3 may arrive in one read at the end."""

PATIENT: Final[dict[str, Any]] = {
    "temperature": 0, "startup_timeout": 600, "min_retry_delay": 0.5, "max_retry_delay": 2, "stream_idle_timeout": 60,
}  # fmt: skip
COUNTED: Final = ", ".join(map(str, range(1, 101)))
SOME_DELTAS: Final = 5


@pytest.mark.parametrize("kill", [OwnServer.kill, OwnServer.kill_engine], ids=["server", "engine"])
async def test_a_turn_completes_after_its_killed_server_restarts(kill: Callable[[OwnServer], None]) -> None:
    async with OwnServer(MODEL) as server:
        server.start()
        await server.wait_until_ready()
        async with patient_session(server) as session:
            turn = asyncio.create_task(session.ask("Count from 1 to 100."))
            await wait_until(lambda: len(session.payloads("llm:stream_block_delta")) >= SOME_DELTAS)
            kill(server)
            killed = time.monotonic()
            await wait_until(lambda: bool(session.payloads("provider:retry")))
            noticed = time.monotonic() - killed
            await server.end()
            server.start()
            answer = await turn

    broken, *_, whole = (streamed_text(attempt) for attempt in attempts(session.events))
    retries = session.payloads("provider:retry")
    print(f"noticed after {noticed:.2f} s; {len(retries)} retries in {time.monotonic() - killed:.0f} s")
    assert COUNTED in answer
    assert broken
    assert whole.startswith(broken)
    assert whole.endswith(answer)
    assert [data["status"] for data in session.payloads("llm:response")] == ["ok"]
    assert len(session.payloads("llm:stream_aborted")) == 1
    assert noticed < 10


@pytest.mark.parametrize("kill", [OwnServer.kill, OwnServer.kill_engine], ids=["server", "engine"])
async def test_a_turn_of_tiny_qwen3_survives_a_kill_during_generation(kill: Callable[[OwnServer], None]) -> None:
    goes_on_and_on = {"max_tokens": 3000, "extra_request_params": {"ignore_eos": True}}
    async with OwnServer("tiny-qwen3") as server:
        server.start()
        await server.wait_until_ready()
        async with patient_session(server, **goes_on_and_on) as session:
            turn = asyncio.create_task(session.ask("Count from 1 to 100."))
            while await asyncio.to_thread(written_tokens, server) < 200:
                assert not turn.done()
            kill(server)
            await wait_until(lambda: bool(session.payloads("provider:retry")))
            await server.end()
            server.start()
            answer = await turn

    attempted = [streamed_text(attempt) for attempt in attempts(session.events)]
    print(f"{len(session.payloads('provider:retry'))} retries; {len(attempted)} attempts were seen")
    assert COUNTED in answer
    assert attempted[-1].endswith(answer)
    assert [data["status"] for data in session.payloads("llm:response")] == ["ok"]
    assert len(session.payloads("llm:stream_aborted")) == len(attempted) - 1


async def test_a_session_started_before_its_server_waits_and_reports_it() -> None:
    async with OwnServer(MODEL) as server, patient_session(server) as session:
        turn = asyncio.create_task(session.ask("What is the capital of France?"))
        await wait_until(lambda: len(session.payloads("provider:retry")) >= 2)
        server.start()
        answer = await turn

    told = {data["error_type"] for data in session.payloads("provider:retry")}
    print(f"{len(session.payloads('provider:retry'))} retries: {told}")
    assert answer == "The capital of France is Paris."
    assert "NetworkError" in told
    assert [data["status"] for data in session.payloads("llm:response")] == ["ok"]


@asynccontextmanager
async def patient_session(server: OwnServer, **config: Any) -> AsyncIterator[Session]:
    asked = vllm(server.base_url, **PATIENT | config)
    async with asyncio.timeout(900), open_session(asked, tools=()) as session:
        yield session


def written_tokens(server: OwnServer) -> float:
    """The tokens generated since the server's start, from its metrics."""
    with urllib.request.urlopen(server.base_url.removesuffix("/v1") + "/metrics", timeout=10) as answer:  # noqa: S310
        counted = re.search(rb"^vllm:generation_tokens_total\{[^}]*\} (\S+)", answer.read(), re.MULTILINE)
    return float(counted[1]) if counted else 0


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - neither a session nor a process tells when it is so far
        await asyncio.sleep(0.01)
