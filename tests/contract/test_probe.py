"""The server is asked for its models once for all who wait, and again when that can help."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from amplifier_core.llm_errors import AbortError, LLMTimeoutError, NetworkError, NotFoundError

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.event_recorder import provider_at
from tests.support.exchange import user
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply

HELLO = user("Hello")
ANSWER = load_recording("tiny-qwen3", "r1_answer_stream")
KNOWN: dict[str, Any] = {"default_model": "oss-alias"}
GONE = json_reply(404, {"error": {"message": "The model `old` does not exist.", "code": 404}})


def listing(*models: str, **shape: Any) -> Reply:
    """A list of models; their checkpoint is a gpt-oss, which their names do not tell."""
    cards = [{"id": model, "max_model_len": 8192, "root": "openai/gpt-oss-20b"} for model in models]
    return json_reply(200, {"data": cards}, **shape)


SLOW = listing("oss-alias", delay_before_headers=0.3)
HANGING = listing("oss-alias", delay_before_headers=3600)


def probes(server: ReplayServer) -> int:
    return sum(request.path == "/v1/models" for request in server.requests)


async def test_calls_at_once_share_one_probe_and_get_its_limits() -> None:
    async with ReplayServer(always=ANSWER, models=SLOW) as server, provider_at(server.base_url, **KNOWN) as provider:
        await asyncio.gather(*(provider.complete(HELLO, reasoning_effort="none") for _ in range(5)))

    assert probes(server) == 1
    assert [body["max_output_tokens"] for body in server.request_bodies] == [4096] * 5
    assert {body["reasoning"]["effort"] for body in server.request_bodies} == {"low"}  # all knew it for a gpt-oss


async def test_a_call_during_the_sessions_probe_waits_for_it() -> None:
    async with ReplayServer(always=ANSWER, models=SLOW) as server, provider_at(server.base_url, **KNOWN) as provider:
        probe = asyncio.create_task(provider.probe())
        await asyncio.sleep(0.05)
        await provider.complete(HELLO)
        await probe

    assert probes(server) == 1
    assert server.request_bodies[0]["max_output_tokens"] == 4096


async def test_a_cancelled_waiter_does_not_cancel_the_probe_of_the_others() -> None:
    async with ReplayServer(always=ANSWER, models=SLOW) as server, provider_at(server.base_url, **KNOWN) as provider:
        first = asyncio.create_task(provider.complete(HELLO))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(provider.complete(HELLO))
        await asyncio.sleep(0.05)
        first.cancel()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first

    assert probes(server) == 1
    assert [body["max_output_tokens"] for body in server.request_bodies] == [4096]


async def test_the_last_cancelled_waiter_ends_the_probe_and_the_next_call_starts_another() -> None:
    async with ReplayServer(ANSWER, models=HANGING) as server, provider_at(server.base_url, **KNOWN) as provider:
        call = asyncio.create_task(provider.complete(HELLO))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.wait_for_disconnect(), 5)
        server.models = listing("oss-alias")
        await provider.complete(HELLO)

    assert probes(server) == 2
    assert server.request_bodies[0]["max_output_tokens"] == 4096


async def test_closing_the_provider_ends_its_probe() -> None:
    async with ReplayServer(models=HANGING) as server:
        provider = VLLMProvider(server.base_url)
        waiters = [asyncio.create_task(provider.list_models()) for _ in range(2)]
        await asyncio.sleep(0.1)
        await provider.close()
        failures = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), 5)
        await asyncio.wait_for(server.wait_for_disconnect(), 5)

    assert [type(failure) for failure in failures] == [AbortError, AbortError]


def test_another_event_loop_gets_a_probe_of_its_own() -> None:
    provider = VLLMProvider("http://127.0.0.1:1", config={"default_model": "m"})
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(provider.probe())
    loop.run_until_complete(asyncio.sleep(0))  # the task of the probe exists, and its loop never runs again

    async def ask() -> None:
        with pytest.raises(NetworkError):
            await provider.list_models()
        await provider.close()

    asyncio.run(ask())

    abandoned.cancel()
    with pytest.raises((asyncio.CancelledError, AbortError, NetworkError)):
        loop.run_until_complete(abandoned)
    loop.close()


async def test_after_a_failed_probe_the_first_call_that_finds_the_server_gets_its_limits() -> None:
    async with ReplayServer() as reserved:
        url, port = reserved.base_url, int(reserved.base_url.rpartition(":")[2].partition("/")[0])
    async with provider_at(url, **KNOWN) as provider:
        with pytest.raises(NetworkError):
            await provider.probe()

        async with ReplayServer(always=ANSWER, models=listing("oss-alias"), port=port) as server:
            await provider.complete(HELLO)

    assert server.request_bodies[0]["max_output_tokens"] == 4096


async def test_a_probe_that_hangs_is_not_waited_for_again() -> None:
    async with ReplayServer(always=ANSWER, models=HANGING) as server, provider_at(server.base_url, **KNOWN) as provider:
        with pytest.raises(LLMTimeoutError, match="no list of models within 3 s"):
            await provider.probe()
        began = asyncio.get_running_loop().time()
        await provider.complete(HELLO)
        took = asyncio.get_running_loop().time() - began

    assert took < 1.5
    assert probes(server) == 1  # the call joined the probe that still hung


async def test_a_slow_list_reaches_the_calls_after_it() -> None:
    slow = listing("oss-alias", delay_before_headers=3.5)

    async with ReplayServer(always=ANSWER, models=slow) as server, provider_at(server.base_url, **KNOWN) as provider:
        await provider.complete(HELLO)  # waits 3 s
        await asyncio.sleep(1)
        await provider.complete(HELLO)

    assert ["max_output_tokens" in body for body in server.request_bodies] == [False, True]
    assert probes(server) == 1


async def test_a_server_without_a_list_is_asked_once_a_minute() -> None:
    none = json_reply(404, {"detail": "Not Found"})

    async with ReplayServer(always=ANSWER, models=none) as server, provider_at(server.base_url, **KNOWN) as provider:
        for _ in range(3):
            await provider.complete(HELLO)

    assert probes(server) == 1


async def test_the_default_model_is_the_one_that_would_be_asked() -> None:
    async with ReplayServer(models=listing("first")) as server, provider_at(server.base_url) as provider:
        named = [(provider.default_model, provider.get_info().defaults["model"])]
        for models in (listing("first"), listing("second"), listing("second", "third")):
            server.models = models
            await provider.probe()
            named.append((provider.default_model, provider.get_info().defaults["model"]))

    assert named == [(None, None), ("first", "first"), ("second", "second"), (None, None)]


async def test_the_configured_model_is_the_default_whatever_the_server_lists() -> None:
    async with ReplayServer(models=listing("first")) as server, provider_at(server.base_url, **KNOWN) as provider:
        await provider.probe()

        assert (provider.default_model, provider.get_info().defaults["model"]) == ("oss-alias", "oss-alias")


async def test_a_server_that_changed_its_model_is_probed_again() -> None:
    async with ReplayServer(GONE, ANSWER, models=listing("old")) as server, provider_at(server.base_url) as provider:
        await provider.probe()
        server.models = listing("new")
        with pytest.raises(NotFoundError):
            await provider.complete(HELLO)
        await provider.complete(HELLO)

    assert [body["model"] for body in server.request_bodies] == ["old", "new"]


@asynccontextmanager
async def provider_with_window(window: Any, **config: Any) -> AsyncIterator[VLLMProvider]:
    """A provider of a server with one model, `m`, of this window."""
    models = json_reply(200, {"data": [{"id": "m", "max_model_len": window}]})
    async with ReplayServer(always=ANSWER, models=models) as server, provider_at(server.base_url, **config) as provider:
        yield provider


LOWERED = "m: `context_window` 9,000 is lowered to the server's 8,192 tokens"


@pytest.mark.parametrize(
    ("window", "config", "line"),
    [
        (8192, {}, ("INFO", "m: planning with a window of 8,192 tokens")),
        (None, {}, ("INFO", "m: the server's window is not known, assuming 128,000 tokens")),
        (8192, {"context_window": 9000}, ("WARNING", LOWERED)),
    ],
    ids=["discovered", "assumed", "lowered"],
)
async def test_the_window_of_a_session_is_logged_once(
    window: int | None, config: dict[str, Any], line: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="amplifier_module_provider_vllm")

    async with provider_with_window(window, **config) as provider:
        await provider.probe()
        await provider.complete(HELLO)
        await provider.complete(HELLO)

    logged = [(record.levelname, record.message.partition("/v1: ")[2]) for record in caplog.records]
    assert [entry for entry in logged if "window" in entry[1]] == [line]


@pytest.mark.parametrize("odd", ["131072", 131072.5, "abc", [], {}], ids=json.dumps)
async def test_an_odd_window_does_not_end_a_session(odd: Any) -> None:
    async with provider_with_window(odd) as provider:
        await provider.probe()
        models = await provider.list_models()
        response = await provider.complete(HELLO)

    window = 131_072 if odd in ("131072", 131072.5) else 128_000
    assert [(model.id, model.context_window) for model in models] == [("m", window)]
    assert response.finish_reason == "stop"
