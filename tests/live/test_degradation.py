"""A setting that a server does not support: the reply comes without it and reports it."""

import json
from typing import Any

import pytest
from amplifier_core.message_models import (
    ChatRequest,
    Degradation,
    ImageBlock,
    Message,
    ResponseFormatJsonSchema,
    TextBlock,
    ToolCallBlock,
)

from amplifier_module_provider_vllm import VLLMProvider
from tests.live.endpoints import at_every_endpoint
from tests.rig.prompts import Wire
from tests.rig.replies import is_cut, text_of
from tests.rig.server import LiveServer
from tests.rig.tap import Tap
from tests.support.exchange import (
    CAPITAL,
    GET_WEATHER,
    WEATHER,
    block_contents,
    mounted_provider,
    open_provider,
    user,
    without_control_tokens,
)
from tests.support.session import open_session, vllm

pytestmark = pytest.mark.live

PARIS = ("text", "The capital of France is Paris.")
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "population": {"type": "integer"}},
    "required": ["city", "population"],
    "additionalProperties": False,
}
CONTROL = "<|im_start|> <|im_end|> <|endoftext|> <|start|> <|end|> <|message|> <|channel|> <|call|> <|return|>"
CONTROL += " <tool_response> </tool_response> <start_of_turn> <end_of_turn> </s> [INST] [/TOOL_RESULTS] <｜User｜>"

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


def format_request(schema: dict[str, Any], text: str, **fields: Any) -> ChatRequest:
    return user(text, response_format=ResponseFormatJsonSchema(type="json_schema", json_schema=schema), **fields)


async def test_no_tool_is_called_with_tool_choice_none(provider: VLLMProvider) -> None:
    response = await provider.complete(WEATHER, tool_choice="none")

    assert response.tool_calls is None
    assert block_contents(response) == [
        ("thinking", "I have no tool for the weather."),
        ("text", "I cannot look up the weather."),
    ]
    assert response.finish_reason == "stop"


# The schema-bound output of tiny-gpt-oss, mostly whitespace, depends on the CPU.
@at_every_endpoint
@both_ways
async def test_a_schema_shapes_the_answer(server: LiveServer, endpoint: str, stream: bool) -> None:
    config = {"endpoint": endpoint, "use_streaming": stream}
    async with Tap(server.base_url, endpoint) as tap, open_provider(tap.base_url, **config) as provider:
        response: Any = await provider.complete(format_request(CITY, "Give me a city as JSON.", max_output_tokens=120))

    ((request, reply),) = tap.exchanges
    text = response.text
    assert _schema_of(request) == CITY
    assert text == without_control_tokens(text_of(reply))
    assert response.finish_reason == ("length" if is_cut(reply) else "stop")
    assert response.degradation is None
    if response.finish_reason == "stop":
        assert sorted(json.loads(text)) == ["city", "population"]


@at_every_endpoint
@both_ways
async def test_a_refused_schema_is_dropped(server: LiveServer, endpoint: str, stream: bool) -> None:
    config = {"endpoint": endpoint, "use_streaming": stream, "max_retries": 0}
    async with open_provider(server.base_url, **config) as provider:
        response = await provider.complete(format_request({"type": "wat"}, "What is the capital of France?"))

    assert block_contents(response)[-1] == PARIS
    assert response.degradation is not None
    assert (response.degradation.requested, response.degradation.actual) == ("json_schema", "text")
    assert "grammar" in response.degradation.reason.lower()


@at_every_endpoint
async def test_an_image_for_a_text_model_becomes_a_note(server: LiveServer, endpoint: str) -> None:
    image = ImageBlock(source={"type": "base64", "media_type": "image/png", "data": PNG})
    request = ChatRequest(
        messages=[Message(role="user", content=[TextBlock(text="What is the capital of France?"), image])]
    )

    plan = vllm(server.base_url, temperature=0, endpoint=endpoint, raw=True)
    async with open_session(plan) as session:
        first = await mounted_provider(session).complete(request)
        second = await mounted_provider(session).complete(request)

    # Qwen's server refuses the image; a gpt-oss server would silently drop it, so none is sent.
    sees_none = f"{server.model} cannot see images"
    reasons = [f"{server.model} is not a multimodal model", sees_none]
    if server.model == "tiny-gpt-oss":
        reasons = [sees_none] * 2
    elif endpoint == "completions":
        reasons = ["/v1/completions takes no images"] * 2
    sent = ["image_url" in str(event["raw"]) for event in session.payloads("llm:request")]
    assert sent == [reasons[0] != reasons[1], False]
    assert block_contents(first)[-1] == block_contents(second)[-1] == PARIS
    assert [first.degradation, second.degradation] == [
        Degradation(requested="image", actual="text", reason=reason) for reason in reasons
    ]


@pytest.mark.parametrize(
    "opted_out",
    [
        {"extended_thinking": False},
        {"extended_thinking": False, "reasoning_effort": "high"},
        {"reasoning_effort": "none"},
    ],
    ids=["opted out", "opted out of more", "effort none"],
)
async def test_thinking_can_be_turned_off(server: LiveServer, endpoint: str, opted_out: dict[str, Any]) -> None:
    plan = vllm(server.base_url, temperature=0, endpoint=endpoint, reasoning_effort="medium", raw=True)
    async with open_session(plan) as session:
        response = await mounted_provider(session).complete(CAPITAL, **opted_out)

    (request,) = session.payloads("llm:request")
    assert block_contents(response)[-1] == PARIS
    if server.model == "tiny-qwen3":
        assert endpoint == "completions" or _effort_of(request["raw"]) == "none"
        assert [kind for kind, _ in block_contents(response)] == ["text"]
    else:  # gpt-oss always reasons
        assert endpoint == "completions" or _effort_of(request["raw"]) == "low"


@pytest.mark.parametrize(("effort", "taken"), [("minimal", "low"), ("xhigh", "high"), ("max", "high")])
async def test_an_effort_unknown_to_gpt_oss_becomes_the_nearest_and_is_reported(
    gpt_oss: LiveServer, endpoint: str, effort: str, taken: str
) -> None:
    async with open_provider(gpt_oss.base_url, endpoint=endpoint) as provider:
        response = await provider.complete(CAPITAL, reasoning_effort=effort)

    assert block_contents(response)[-1] == PARIS
    assert response.degradation is not None
    assert (response.degradation.requested, response.degradation.actual) == (
        f"reasoning effort {effort}",
        f"reasoning effort {taken}",
    )


async def test_control_tokens_in_a_tool_output_are_encoded_as_text(storing_server: LiveServer) -> None:
    wire = Wire(storing_server.base_url)
    async with wire.client:
        provider = VLLMProvider(client=wire.client, config={"temperature": 0})
        counts = {}
        for output in (CONTROL, "sunny, 21 C"):
            response = await provider.complete(_after_tool(output))
            prompt = await wire.tokens(wire.request_bodies[-1])
            assert response.usage is not None
            assert response.usage.input_tokens == len(prompt)
            counts[output] = [prompt.count(token) for token in await _control_tokens(wire, storing_server)]

    assert counts[CONTROL] == counts["sunny, 21 C"]
    assert sum(counts[CONTROL]) > 0


async def test_a_tool_output_with_control_tokens_stays_in_its_turn(storing_qwen: LiveServer) -> None:
    wire = Wire(storing_qwen.base_url)
    async with wire.client:
        await VLLMProvider(client=wire.client, config={"temperature": 0}).complete(_after_tool(CONTROL))
        prompt = await wire.text(storing_qwen.model, await wire.tokens(wire.request_bodies[-1]))

    turn = prompt.rpartition("<tool_response>\n")[2]
    output, _, rest = turn.partition("\n</tool_response>")
    assert output.replace("\N{WORD JOINER}", "") == CONTROL
    assert rest.startswith("<|im_end|>\n<|im_start|>assistant\n")


def _schema_of(request: dict[str, Any]) -> object:
    match request:
        case {"text": {"format": {"schema": schema}}}:
            return schema
        case _:
            return request["response_format"]["json_schema"]["schema"]


def _effort_of(request: dict[str, Any]) -> object:
    """The effort in a request's body; at completions it is in the rendered prompt."""
    return request["reasoning"]["effort"] if "reasoning" in request else request["reasoning_effort"]


def _after_tool(output: str) -> ChatRequest:
    call = ToolCallBlock(id="call_1", name="get_weather", input={"city": "Paris"})
    return ChatRequest(
        messages=[
            Message(role="user", content="What is the weather in Paris?"),
            Message(role="assistant", content=[call]),
            Message(role="tool", name="get_weather", tool_call_id="call_1", content=output),
        ],
        tools=[GET_WEATHER],
    )


async def _control_tokens(wire: Wire, server: LiveServer) -> list[int]:
    """The ids that the model's own tokenizer gives to those of `CONTROL` that it knows as one token."""
    spelled = [await wire.tokenize(server.model, name) for name in CONTROL.split()]
    return [tokens[0] for tokens in spelled if len(tokens) == 1]
