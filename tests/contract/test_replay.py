"""The replay server itself: recorded bytes reach the real SDK unchanged, for any split."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
import respx

from tests.support.recordings import cases, load_broken_stream, load_recording
from tests.support.replay import Ending, ReplayServer, json_reply, reply
from tests.support.routes import http_response, routed_client

ANSWER = "tiny-qwen3", "r1_answer"
ANSWER_STREAM = "tiny-qwen3", "r1_answer_stream"


def client_of(server: ReplayServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.base_url, api_key="EMPTY", max_retries=0)


async def streamed_bytes(client: openai.AsyncOpenAI, params: dict[str, Any]) -> bytes:
    stream = await client.responses.create(**params)
    try:
        return b"".join([piece async for piece in stream.response.aiter_raw()])
    finally:
        await stream.close()


@pytest.mark.parametrize("piece", [None, 1, 7, 4096], ids=["whole", "byte by byte", "by 7", "by 4096"])
async def test_a_stream_arrives_unchanged_in_writes_of_any_size(piece: int | None) -> None:
    recording = load_recording(*ANSWER_STREAM)

    async with ReplayServer(reply(recording, piece=piece)) as server, client_of(server) as client:
        received = await streamed_bytes(client, recording.request)

    assert received == recording.body
    assert server.request_bodies == [recording.request]


async def test_one_connection_carries_several_exchanges() -> None:
    whole, tool = load_recording(*ANSWER), load_recording("tiny-gpt-oss", "r2_tool")

    async with ReplayServer(whole, tool) as server, client_of(server) as client:
        first = await client.responses.create(**whole.request)
        models = await client.models.list()
        second = await client.responses.create(**tool.request)

    assert (first.id, second.id) == (whole.json["id"], tool.json["id"])
    assert [model.id for model in models.data] == ["tiny-qwen3"]
    assert [request.path for request in server.requests] == ["/v1/responses", "/v1/models", "/v1/responses"]


async def test_a_request_beyond_the_last_reply_fails_its_test() -> None:
    async with ReplayServer() as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError, match="no further reply"):
            await client.responses.create(model="tiny-qwen3", input="Hello")


async def test_a_dying_server_truncates_the_body() -> None:
    killed, params = load_broken_stream("kill_engine"), load_recording(*ANSWER_STREAM).request

    async with ReplayServer(killed) as server, client_of(server) as client:
        with pytest.raises(Exception, match="incomplete chunked read"):
            await streamed_bytes(client, params)


@pytest.mark.parametrize(("cut_at", "ending"), [(200, "stall"), (0, "stall")], ids=["after some bytes", "at once"])
async def test_a_server_can_stall(cut_at: int, ending: Ending) -> None:
    recording = load_recording(*ANSWER_STREAM)
    silent = reply(recording, cut_at=cut_at, ending=ending)

    async with ReplayServer(silent) as server, client_of(server) as client:
        stream = await client.responses.create(**recording.request)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.response.aread(), timeout=0.2)
        await stream.close()


async def test_a_reply_can_be_synthetic() -> None:
    busy = json_reply(503, {"error": {"message": "busy"}}, {"retry-after": "7"})

    async with ReplayServer(busy) as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await client.responses.create(model="tiny-qwen3", input="Hello")

    assert raised.value.response.headers["retry-after"] == "7"


async def test_a_route_answers_the_sdk_with_a_recorded_error() -> None:
    unknown = load_recording("tiny-qwen3", "unknown_model")
    router = respx.MockRouter()
    route = router.post("http://vllm.test/v1/responses").mock(return_value=http_response(unknown))

    async with routed_client(router) as client:
        with pytest.raises(openai.NotFoundError, match="Valid aliases: tiny-qwen3") as raised:
            await client.responses.create(**unknown.request)

    assert raised.value.status_code == unknown.status
    assert json.loads(route.calls.last.request.content) == unknown.request


async def test_a_route_answers_with_a_recorded_reply() -> None:
    whole = load_recording(*ANSWER)
    router = respx.MockRouter()
    router.post("http://vllm.test/v1/responses").mock(return_value=http_response(whole))

    async with routed_client(router) as client:
        response = await client.responses.create(**whole.request)

    assert response.output_text == whole.json["output"][-1]["content"][0]["text"]


async def test_a_route_can_raise_a_network_error() -> None:
    router = respx.MockRouter()
    router.post("http://vllm.test/v1/responses").mock(side_effect=httpx.ConnectError("refused"))

    async with routed_client(router) as client:
        with pytest.raises(openai.APIConnectionError) as raised:
            await client.responses.create(model="tiny-qwen3", input="Hello")

    assert str(raised.value.__cause__) == "refused"


@pytest.mark.parametrize("group", ["tiny-qwen3", "tiny-gpt-oss", "chat/tiny-qwen3", "chat/tiny-gpt-oss"])
def test_every_recording_is_readable(group: str) -> None:
    recordings = [load_recording(group, case) for case in cases(group)]

    assert len(recordings) > 150
    assert all(recording.body for recording in recordings if recording.status == 200)
    assert {recording.is_stream for recording in recordings} == {True, False}
