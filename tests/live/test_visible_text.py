"""No control token and no stop string in a text of real vLLM, streamed and whole."""

from typing import Any

import pytest
from amplifier_core.message_models import ResponseFormatJsonSchema

from tests.rig.server import LiveServer
from tests.rig.tap import Tap
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.exchange import CAPITAL, WEATHER, block_contents, open_provider, user

pytestmark = pytest.mark.live

THOUGHT = ("thinking", "I should look up the weather in Paris.")

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


@pytest.mark.parametrize("cap", range(16, 26))
async def test_a_reply_truncated_in_a_header_ends_before_it(gpt_oss: LiveServer, endpoint: str, cap: int) -> None:
    request = WEATHER.model_copy(update={"max_output_tokens": cap})
    recorder = EventRecorder()

    async with provider_at(gpt_oss.base_url, recorder, temperature=0, endpoint=endpoint) as provider:
        streamed = await provider.complete(request)
    config = {"endpoint": endpoint, "use_streaming": False}
    async with Tap(gpt_oss.base_url, endpoint) as tap, open_provider(tap.base_url, **config) as provider:
        whole = await provider.complete(request)

    texts = [data["text"] for data in recorder.payloads("llm:stream_block_delta") if data["block_type"] == "text"]
    assert "<|start|>" in str(tap.replies[0])
    assert (
        block_contents(streamed)[0]
        == block_contents(whole)[0]
        == ("thinking", "I should look up the weather in Paris.")
    )
    assert not any("<|" in str(content) for response in (streamed, whole) for _, content in block_contents(response))
    assert not any("<|" in text for text in texts)


@both_ways
@pytest.mark.parametrize("cap", [None, 20, 60])
async def test_a_schema_bound_text_has_no_control_token(
    gpt_oss: LiveServer, endpoint: str, cap: int | None, stream: bool
) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    request = user(
        "Give me a city as JSON.", response_format=ResponseFormatJsonSchema(json_schema=schema), max_output_tokens=cap
    )

    async with open_provider(gpt_oss.base_url, endpoint=endpoint, use_streaming=stream) as provider:
        response: Any = await provider.complete(request)

    assert "<|" not in (response.text or "")


@both_ways
@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        ("France is", "The capital of"),
        ("nce is Pa", "The capital of Fra"),
        ("tal of France i", "The capi"),
        ("Rome", "The capital of France is Paris."),
    ],
)
async def test_a_text_ends_before_its_stop_string(
    server: LiveServer, endpoint: str, stop: str, shown: str, stream: bool
) -> None:
    """The reasoning contains none of them: vLLM searches it too."""
    request = CAPITAL.model_copy(update={"stop": [stop]})
    recorder = EventRecorder()

    config = {"temperature": 0, "endpoint": endpoint, "use_streaming": stream}

    async with provider_at(server.base_url, recorder, **config) as provider:
        response: Any = await provider.complete(request)

    deltas = [data["text"] for data in recorder.payloads("llm:stream_block_delta") if data["block_type"] == "text"]
    assert (response.text.strip(), response.finish_reason) == (shown, "stop")
    assert stream is False or "".join(deltas) == response.text


@both_ways
async def test_a_stop_string_in_the_reasoning_ends_the_reply(server: LiveServer, endpoint: str, stream: bool) -> None:
    request = CAPITAL.model_copy(update={"stop": ["asks for"]})

    async with open_provider(server.base_url, endpoint=endpoint, use_streaming=stream) as provider:
        response = await provider.complete(request)

    assert block_contents(response) == [("thinking", "The user")]
    assert response.finish_reason == "stop"
