"""An optional part that a server refuses is dropped in a second request, and `degradation` reports it."""

from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidRequestError, StreamError
from amplifier_core.message_models import (
    ChatRequest,
    Degradation,
    ImageBlock,
    Message,
    ResponseFormatJsonSchema,
    TextBlock,
)

from tests.support.event_recorder import NO_RETRY_DELAY, provider_at
from tests.support.exchange import user
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply, reply

ANSWER = load_recording("tiny-qwen3", "r1_answer_stream")
BAD_SCHEMA = load_recording("tiny-qwen3", "fmt_json_schema_bad")
BLIND = json_reply(400, {"error": {"message": "tiny-qwen3 is not a multimodal model", "code": 400}})
NO_SUCH_IMAGE = json_reply(422, {"error": {"message": "Failed to load the image from its URL", "code": 422}})
# vLLM 0.32's stream for an unsupported grammar: it starts, and the connection breaks.
BROKEN = reply(ANSWER, cut_at=ANSWER.body.index(b"event: response.output_item.added"), ending="cut")

TEXT = TextBlock(text="What is the capital of France?")
IMAGE = ImageBlock(source={"type": "base64", "media_type": "image/png", "data": "QUJD"})
SCHEMA = ResponseFormatJsonSchema(type="json_schema", json_schema={"type": "wat"})

QUESTION = ChatRequest(messages=[Message(role="user", content=[TEXT])])
FORMATTED = QUESTION.model_copy(update={"response_format": SCHEMA})
PICTURED = ChatRequest(messages=[Message(role="user", content=[TEXT, IMAGE])])
NOTE = "[An image was here, but this model cannot see images.]"


async def test_a_stream_broken_by_a_bad_schema_is_retried_unstreamed_for_the_reason_then_without_the_schema() -> None:
    async with ReplayServer(BROKEN, BAD_SCHEMA, ANSWER) as server, provider_at(server.base_url) as provider:
        response: Any = await provider.complete(FORMATTED)

    first, second, third = server.request_bodies
    assert second == first | {"stream": False}
    assert third == {key: value for key, value in first.items() if key != "text"}
    assert response.text.strip() == "The capital of France is Paris."
    assert response.degradation == Degradation(
        requested="json_schema", actual="text", reason="Grammar error: Invalid type: wat"
    )


async def test_a_stream_broken_for_another_reason_is_completed_by_an_unstreamed_reply() -> None:
    whole = load_recording("tiny-qwen3", "r1_answer")

    async with ReplayServer(BROKEN, whole) as server, provider_at(server.base_url) as provider:
        response: Any = await provider.complete(FORMATTED)

    assert len(server.request_bodies) == 2
    assert response.text.strip() == "The capital of France is Paris."
    assert response.degradation is None


async def test_a_broken_stream_without_a_schema_is_only_retried() -> None:
    async with ReplayServer(BROKEN, ANSWER) as server, provider_at(server.base_url, **NO_RETRY_DELAY) as provider:
        await provider.complete(QUESTION)

    first, second = server.request_bodies
    assert first == second


@pytest.mark.parametrize("refused", [[BAD_SCHEMA, BLIND], [BLIND, BAD_SCHEMA]], ids=["schema first", "image first"])
async def test_two_parameters_refused_in_turn_are_both_dropped(refused: list[Reply]) -> None:
    request = PICTURED.model_copy(update={"response_format": SCHEMA})

    async with ReplayServer(*refused, ANSWER, always=ANSWER) as server, provider_at(server.base_url) as provider:
        response: Any = await provider.complete(request)

    last = server.request_bodies[-1]
    assert ("text" in last, NOTE in str(last["input"])) == (False, True)
    assert response.degradation.requested in ("json_schema, image", "image, json_schema")
    assert "not a multimodal model" in response.degradation.reason
    assert "Grammar error" in response.degradation.reason


async def test_a_model_that_refuses_images_gets_only_one_image_request() -> None:
    async with ReplayServer(BLIND, ANSWER, ANSWER) as server, provider_at(server.base_url) as provider:
        first = await provider.complete(PICTURED)
        second = await provider.complete(PICTURED)

    assert [NOTE in str(asked["input"]) for asked in server.request_bodies] == [False, True, True]
    assert first.degradation == Degradation(
        requested="image", actual="text", reason="tiny-qwen3 is not a multimodal model"
    )
    assert second.degradation == Degradation(requested="image", actual="text", reason="tiny-qwen3 cannot see images")


async def test_a_refusal_of_images_for_a_request_without_any_is_an_error_and_does_not_disable_images() -> None:
    async with ReplayServer(BLIND, ANSWER) as server, provider_at(server.base_url) as provider:
        with pytest.raises(InvalidRequestError):
            await provider.complete(user("Hello"))
        response = await provider.complete(PICTURED)

    assert [NOTE in str(body["input"]) for body in server.request_bodies] == [False, False]
    assert response.degradation is None


async def test_an_image_that_cannot_be_loaded_does_not_disable_images() -> None:
    async with ReplayServer(NO_SUCH_IMAGE, ANSWER, ANSWER) as server, provider_at(server.base_url) as provider:
        first = await provider.complete(PICTURED)
        second = await provider.complete(PICTURED)

    assert [NOTE in str(asked["input"]) for asked in server.request_bodies] == [False, True, False]
    assert first.degradation is not None
    assert first.degradation.reason == "Failed to load the image from its URL"
    assert second.degradation is None


async def test_degrading_stops_if_every_variant_is_refused() -> None:
    async with ReplayServer(always=BLIND) as server, provider_at(server.base_url) as provider:
        with pytest.raises(InvalidRequestError):
            await provider.complete(PICTURED)

    assert len(server.request_bodies) == 2


async def test_a_failure_after_a_refusal_is_reported_as_itself() -> None:
    async with (
        ReplayServer(BLIND, always=BROKEN) as server,
        provider_at(server.base_url, **NO_RETRY_DELAY, max_retries=0) as provider,
    ):
        with pytest.raises(StreamError) as failure:
            await provider.complete(PICTURED)

    assert "broke before the reply was complete (RemoteProtocolError" in str(failure.value)
    assert "multimodal" not in str(failure.value)
    assert len(server.request_bodies) == 2
