"""A server that restarts behind a gateway is waited for; a wrong path is not."""

import asyncio
from typing import Any

import pytest
from amplifier_core.llm_errors import NotFoundError, ProviderUnavailableError

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.exchange import user
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply, reply

HELLO = user("Hello")
ANSWER = load_recording("tiny-qwen3", "r1_answer_stream")
NOTHING = Reply(404, {}, b"")
NO_LIST = json_reply(404, {"detail": "Not Found"})
PATIENT: dict[str, Any] = {"startup_timeout": 30, "min_retry_delay": 0.01, "max_retries": 0}


async def test_an_empty_404_of_a_server_that_lists_the_model_is_retried() -> None:
    recorder = EventRecorder()

    async with ReplayServer(NOTHING, ANSWER) as server, provider_at(server.base_url, recorder) as provider:
        response = await provider.complete(HELLO)

    (retry,) = recorder.payloads("provider:retry")
    assert (response.finish_reason, retry["status_code"]) == ("stop", 404)
    assert retry["error_type"] == "ProviderUnavailableError"


@pytest.mark.parametrize("config", [{"default_model": "tiny-qwen3"}, {}], ids=["a known model", "the only model"])
async def test_with_a_startup_timeout_every_empty_404_is_retried(config: dict[str, Any]) -> None:
    models = NOTHING if config else load_recording("tiny-qwen3", "get_v1_models")

    async with (
        ReplayServer(NOTHING, NOTHING, ANSWER, models=models) as server,
        provider_at(server.base_url, **PATIENT, **config) as provider,
    ):
        response = await provider.complete(HELLO)

    assert response.finish_reason == "stop"
    assert len(server.request_bodies) == 3


async def test_with_a_startup_timeout_an_empty_404_in_place_of_the_models_is_retried() -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(ANSWER, models=NOTHING) as server,
        provider_at(server.base_url, recorder, **PATIENT) as provider,
    ):
        call = asyncio.create_task(provider.complete(HELLO))
        await recorder.wait_for("provider:retry")
        server.models = reply(load_recording("tiny-qwen3", "get_v1_models"))
        response = await call

    assert response.finish_reason == "stop"


@pytest.mark.parametrize("models", [NOTHING, NO_LIST], ids=["no body", "JSON"])
async def test_an_empty_404_of_a_wrong_path_is_an_error_at_once(models: Reply) -> None:
    async with (
        ReplayServer(always=NOTHING, models=models) as server,
        provider_at(server.base_url, default_model="tiny-qwen3") as provider,
    ):
        with pytest.raises(NotFoundError) as raised:
            await provider.complete(HELLO)

    assert str(raised.value).startswith("status 404 without a body; check that `base_url` (VLLM_BASE_URL) ends with")
    assert len(server.request_bodies) == 1


async def test_an_empty_404_for_a_model_that_is_not_listed_is_an_error_at_once() -> None:
    async with ReplayServer(always=NOTHING) as server, provider_at(server.base_url) as provider:
        with pytest.raises(NotFoundError, match="The server has: tiny-qwen3"):
            await provider.complete(HELLO, model="other")

    assert len(server.request_bodies) == 1


async def test_a_404_in_json_ends_the_call_whatever_it_says() -> None:
    starting = json_reply(404, {"error": {"message": "the service is starting, warming up"}})

    async with (
        ReplayServer(always=starting) as server,
        provider_at(server.base_url, **PATIENT, default_model="tiny-qwen3") as provider,
    ):
        with pytest.raises(NotFoundError):
            await provider.complete(HELLO)

    assert len(server.request_bodies) == 1


async def test_the_error_after_all_retries_names_the_url_to_check() -> None:
    async with ReplayServer(always=NOTHING) as server, provider_at(server.base_url, max_retries=2) as provider:
        with pytest.raises(ProviderUnavailableError) as raised:
            await provider.complete(HELLO)

    assert str(raised.value).endswith("ends with vLLM's path; or its server restarts")
    assert len(server.request_bodies) == 3
