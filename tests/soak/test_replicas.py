"""Two vLLM replicas behind HAProxy, one of them killed under load: no turn is lost or answered twice."""

import asyncio
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.rig.launch import LOOPBACK, reserve_port
from tests.soak.own_server import OwnServer
from tests.support.call_events import attempts, streamed_text
from tests.support.exchange import block_contents, mounted_provider, user
from tests.support.session import Session, open_session, vllm

MODEL: Final = "tiny-gpt-oss"
TURNS: Final = 200
CAPITAL: Final = user("What is the capital of France?")
ANSWER: Final = ("text", "The capital of France is Paris.")
KILLED_AFTER: Final = 20
"""Turns answered before the kill; the others wait or are in mid-stream."""

PATIENT: Final[dict[str, Any]] = {
    "temperature": 0, "startup_timeout": 120, "min_retry_delay": 0.2, "max_retry_delay": 2, "stream_idle_timeout": 120,
}  # fmt: skip

CONFIG: Final = """
global
    maxconn 4000
defaults
    mode http
    timeout connect 2s
    timeout client 300s
    timeout server 300s
    option redispatch
    retries 2
frontend vllm
    bind {front}
    default_backend replicas
backend replicas
    balance leastconn
    option httpchk GET /health
    server one {one} check inter 500ms fall 2 rise 1
    server two {two} check inter 500ms fall 2 rise 1
"""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy (Debian: apt install haproxy)"),
]


async def test_no_turn_of_two_hundred_is_lost_when_a_replica_dies(tmp_path: Path) -> None:
    async with OwnServer(MODEL) as one, OwnServer(MODEL) as two:
        one.start()
        two.start()
        await asyncio.gather(one.wait_until_ready(), two.wait_until_ready())
        async with (
            asyncio.timeout(500),
            load_balancer(tmp_path, one, two) as base_url,
            open_session(vllm(base_url, **PATIENT)) as session,
        ):
            turns = [asyncio.create_task(mounted_provider(session).complete(CAPITAL)) for _ in range(TURNS)]
            while sum(turn.done() for turn in turns) < KILLED_AFTER:  # noqa: ASYNC110 - no one signal for it
                await asyncio.sleep(0.01)
            one.kill_engine()
            one.kill()
            waiting = sum(not turn.done() for turn in turns)
            replies = await asyncio.gather(*turns)

    retries = Counter(data["error_type"] for data in session.payloads("provider:retry"))
    broken = len(session.payloads("llm:stream_aborted"))
    print(f"{waiting} turns were under way; {broken} broke in mid-stream; retries: {dict(retries)}")
    assert Counter(block_contents(reply)[-1] for reply in replies) == {ANSWER: TURNS}
    assert Counter(data["status"] for data in session.payloads("llm:response")) == {"ok": TURNS}
    assert len({data["request_id"] for data in session.payloads("llm:response")}) == TURNS
    assert Counter(streamed_text(stands)[-len(ANSWER[1]) :] for stands in _final_streams(session)) == {ANSWER[1]: TURNS}
    assert waiting > 0
    assert retries


@asynccontextmanager
async def load_balancer(folder: Path, one: OwnServer, two: OwnServer) -> AsyncIterator[str]:
    """The URL of a load balancer in front of both."""
    with reserve_port(0) as reservation:
        front = f"{LOOPBACK}:{reservation.getsockname()[1]}"
    places = {"front": front, "one": urlsplit(one.base_url).netloc, "two": urlsplit(two.base_url).netloc}
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(**places))
    haproxy = subprocess.Popen([str(shutil.which("haproxy")), "-db", "-f", str(config)])  # noqa: ASYNC220, S603
    try:
        await asyncio.sleep(2)  # until both health checks succeed
        assert haproxy.poll() is None
        yield f"http://{front}/v1"
    finally:
        haproxy.kill()
        haproxy.wait()


def _final_streams(session: Session) -> list[list[Any]]:
    """The stream of each call that was not aborted."""
    calls: dict[str, list[Any]] = {}
    for event in session.events:
        if event.name.startswith("llm:stream"):
            calls.setdefault(event.data["request_id"], []).append(event)
    return [list(attempts(events))[-1] for events in calls.values()]
