"""Failures with a real server: helpful messages, and working calls afterwards."""

import asyncio
import json
import logging
import re
import socket
import traceback
from contextlib import closing, suppress

import pytest
from amplifier_core.llm_errors import (
    AuthenticationError,
    ContextLengthError,
    NetworkError,
    NotFoundError,
    ProviderUnavailableError,
)

from amplifier_module_provider_vllm import VLLMProvider
from tests.live.endpoints import at_every_endpoint
from tests.live.servers import KEY
from tests.rig.server import LiveServer
from tests.support.exchange import CAPITAL, block_contents, mounted_provider, open_provider, user
from tests.support.session import Session, open_session, vllm

pytestmark = pytest.mark.live

CONNECT_TIMEOUT = 10
WRONG_KEY = "sk-a-wrong-key-77f1"


@pytest.fixture
def closed_url() -> str:
    """The URL of a closed port."""
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"


async def test_the_error_for_a_stopped_server_names_it_and_what_to_check(closed_url: str, endpoint: str) -> None:
    async with open_session(vllm(closed_url, retry_jitter=False, endpoint=endpoint)) as session:
        with pytest.raises(NetworkError) as failure:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await session.ask("What is the capital of France?")

    error, advice = str(failure.value), "check that the vLLM server is running there and that `base_url`"
    assert error.startswith(f"no connection to {closed_url} (")
    assert error.endswith(f"{advice} (VLLM_BASE_URL) is right")


@at_every_endpoint
async def test_the_error_for_an_unknown_model_lists_the_served_models(server: LiveServer, endpoint: str) -> None:
    async with open_session(vllm(server.base_url, default_model="no-such", endpoint=endpoint)) as session:
        with pytest.raises(NotFoundError) as failure:
            await session.ask("What is the capital of France?")

    error = failure.value
    assert str(error).endswith(f"The server has: {server.model}. Set `default_model` to one of them.")
    assert (error.provider, error.model, error.status_code, error.retryable) == ("vllm", "no-such", 404, False)


@at_every_endpoint
async def test_a_prompt_that_is_too_long_is_reported_and_the_limits_stay_correct(
    provider: VLLMProvider, server: LiveServer, endpoint: str
) -> None:
    with pytest.raises(ContextLengthError) as failure:
        await provider.complete(user("Hello. " * 5000))

    response = await provider.complete(CAPITAL)

    error, limits = failure.value, provider.get_model_info()
    # At the other endpoints vLLM words it differently for gpt-oss.
    assert re.search(r"maximum context length (is 4096 tokens|\(4096\))", str(error))
    assert endpoint != "responses" or "maximum context length is 4096 tokens" in str(error)
    assert (error.provider, error.model, error.status_code, error.retryable) == ("vllm", server.model, 400, False)
    assert (limits.context_window, limits.max_output_tokens) == (4096, 1024)
    assert block_contents(response)[-1] == ("text", "The capital of France is Paris.")


async def test_the_right_key_works_and_a_wrong_key_is_refused_and_never_shown(
    locked_server: LiveServer, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    telling = {"raw": True, "debug": True, "raw_debug": True, "endpoint": endpoint}
    right = vllm(locked_server.base_url, "right", api_key=KEY, **telling)
    wrong = vllm(locked_server.base_url, "wrong", api_key=WRONG_KEY, default_model="tiny-qwen3", **telling)

    async with open_session(right, wrong) as session:
        response = await mounted_provider(session, "right").complete(CAPITAL)
        with pytest.raises(AuthenticationError) as failure:
            await mounted_provider(session, "wrong").complete(CAPITAL)

    error = failure.value
    shown = [*traceback.format_exception(error), repr(error), repr(mounted_provider(session, "wrong")), caplog.text]
    shown += [json.dumps(event.data) for event in session.events]
    assert block_contents(response)[-1] == ("text", "The capital of France is Paris.")
    assert (error.provider, error.model, error.status_code, error.retryable) == ("vllm", "tiny-qwen3", 401, False)
    assert str(error) == "Unauthorized: the server refused the key; set `api_key` (VLLM_API_KEY)"
    assert [key for key in (KEY, WRONG_KEY) if any(key in text for text in shown)] == []


@at_every_endpoint
async def test_a_turn_cancelled_in_mid_stream_emits_one_response_and_the_next_turn_works(
    gpt_oss: LiveServer, endpoint: str
) -> None:
    turns: list[asyncio.Task[str]] = []

    def cancel(name: str, _data: dict[str, object]) -> None:
        if name == "llm:stream_block_delta" and len(turns) == 1:
            turns[0].cancel()

    async with open_session(vllm(gpt_oss.base_url, temperature=0, endpoint=endpoint), listener=cancel) as session:
        turns.append(asyncio.create_task(session.ask("Count from 1 to 100.")))
        with pytest.raises(asyncio.CancelledError):
            await turns[0]
        turns.append(asyncio.create_task(session.ask("What is the capital of France?")))
        answer = await turns[1]

    assert answer == "The capital of France is Paris."
    assert _ends(session) == ["llm:stream_aborted", "llm:response cancelled", "llm:response ok"]


def _ends(session: Session) -> list[str]:
    return [
        " ".join(filter(None, [event.name, event.data.get("status")]))
        for event in session.events
        if event.name in ("llm:stream_aborted", "llm:response")
    ]


async def test_a_prompt_that_vllm_cuts_off_is_warned_of_once(
    qwen: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    long = user("Remember the word apple. " + "word " * 5000)

    async with open_provider(qwen.base_url, truncation="auto", max_retries=0) as provider:
        with suppress(ProviderUnavailableError):  # the one token that is left may be empty
            await provider.complete(long)
        await provider.complete(CAPITAL)

    (told,) = [record.message for record in caplog.records if "truncation: auto" in record.message]
    assert f"{qwen.model} was given 4,095 of 4,096 tokens" in told
