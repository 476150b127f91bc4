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


def refused_with(message: str) -> Reply:
    return json_reply(400, {"error": {"message": message, "code": 400}})


REASON_AT_MOST_ONE = "At most 1 image(s) may be provided in one prompt. Set `--limit-mm-per-prompt` to increase it."
AT_MOST_ONE = refused_with(REASON_AT_MOST_ONE)
ONLY_NEWEST = "[An image was here. The server takes only the newest.]"

TEXT = TextBlock(text="What is the capital of France?")


def picture(data: str) -> dict[str, str]:
    return {"type": "base64", "media_type": "image/png", "data": data}


def image_urls(body: dict[str, Any]) -> list[str]:
    """The data of the images in a request."""
    parts = [part for item in body["input"] for part in item.get("content") or [] if isinstance(part, dict)]
    return [part["image_url"].rpartition(",")[2] for part in parts if part["type"] == "input_image"]


IMAGE = ImageBlock(source={"type": "base64", "media_type": "image/png", "data": "QUJD"})
SCHEMA = ResponseFormatJsonSchema(type="json_schema", json_schema={"type": "wat"})

QUESTION = ChatRequest(messages=[Message(role="user", content=[TEXT])])
FORMATTED = QUESTION.model_copy(update={"response_format": SCHEMA})
PICTURED = ChatRequest(messages=[Message(role="user", content=[TEXT, IMAGE])])
THREE_PICTURES = ChatRequest(
    messages=[
        Message(role="user", content=[TEXT, *(IMAGE.model_copy(update={"source": picture(data)}) for data in "AB")]),
        Message(role="assistant", content="Paris."),
        Message(role="user", content=[TEXT, IMAGE.model_copy(update={"source": picture("C")})]),
    ]
)
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


async def test_only_as_many_images_are_dropped_as_the_server_refuses() -> None:
    async with ReplayServer(AT_MOST_ONE, always=ANSWER) as server, provider_at(server.base_url) as provider:
        first = await provider.complete(THREE_PICTURES)
        second = await provider.complete(THREE_PICTURES)
        third = await provider.complete(PICTURED)

    assert [image_urls(body) for body in server.request_bodies] == [["A", "B", "C"], ["C"], ["C"], ["QUJD"]]
    assert [str(body).count(ONLY_NEWEST) for body in server.request_bodies] == [0, 2, 2, 0]
    assert first.degradation == Degradation(requested="image", actual="the newest 1 of 3", reason=REASON_AT_MOST_ONE)
    assert second.degradation == Degradation(
        requested="image", actual="the newest 1 of 3", reason="tiny-qwen3 was sent more images than its server takes"
    )
    assert third.degradation is None


async def test_no_image_is_dropped_if_the_request_has_no_more_than_the_server_takes() -> None:
    async with ReplayServer(always=AT_MOST_ONE) as server, provider_at(server.base_url) as provider:
        with pytest.raises(InvalidRequestError):
            await provider.complete(PICTURED)

    assert len(server.request_bodies) == 1


async def test_a_server_that_takes_no_images_at_all_is_remembered() -> None:
    none = refused_with("At most 0 image(s) may be provided in one prompt.")

    async with ReplayServer(none, ANSWER, ANSWER) as server, provider_at(server.base_url) as provider:
        await provider.complete(THREE_PICTURES)
        await provider.complete(PICTURED)

    assert [image_urls(body) for body in server.request_bodies] == [["A", "B", "C"], [], []]


@pytest.mark.parametrize(
    "message",
    [
        "Invalid schema of the tool 'generate_image'",
        "Unknown parameter: 'image_detail'",
        "`mm_processor_kwargs` of a multimodal model need --trust-request-mm-kwargs",
        "The image of the container does not match",
    ],
)
async def test_a_refusal_that_only_contains_the_word_image_drops_none(message: str) -> None:
    async with ReplayServer(always=refused_with(message)) as server, provider_at(server.base_url) as provider:
        with pytest.raises(InvalidRequestError):
            await provider.complete(PICTURED)

    assert len(server.request_bodies) == 1


@pytest.mark.parametrize(
    "message",
    [
        "This model does not support image input",
        "image input is not supported, you may need to provide the mmproj",
        "Images are not supported by this endpoint.",
        "1 validation error for ResponseInputImageParam\ndetail\n  Field required input_value={'type': 'input_image'}",
        "Failed to load image: cannot identify image file",
        "At most 0 vision_chunk(s) may be provided in one prompt.",
    ],
)
async def test_a_refusal_of_images_drops_them(message: str) -> None:
    async with ReplayServer(refused_with(message), ANSWER) as server, provider_at(server.base_url) as provider:
        response = await provider.complete(PICTURED)

    assert [image_urls(body) for body in server.request_bodies] == [["QUJD"], []]
    assert response.degradation is not None


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
