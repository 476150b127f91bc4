"""Refusals recorded from gateways in front of vLLM end in the same errors as vLLM's own."""

import pytest
from amplifier_core.llm_errors import ContextLengthError, InvalidRequestError, LLMError, NotFoundError

from tests.support.event_recorder import provider_at
from tests.support.exchange import user
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer


@pytest.mark.parametrize(
    ("case", "expected", "status", "message"),
    [
        (
            "agentic_unknown_model",
            NotFoundError,
            404,
            "The model `nope` does not exist. Valid aliases: tiny-qwen3. The server has: tiny-qwen3.",
        ),
        ("agentic_overflow", ContextLengthError, 400, "This model's maximum context length is 4096 tokens."),
        ("agentic_temperature", InvalidRequestError, 400, "temperature must be in [0, 2], got 9.0. (parameter=temp"),
        (
            "agentic_tool_refused",
            InvalidRequestError,
            400,
            "tool error: invalid tool config: MCP require_approval",
        ),
        ("litellm_unknown_response", NotFoundError, 404, "Response with id 'resp_aa1693c4005686c2' not found."),
        (
            "vllm_responses_temperature",
            InvalidRequestError,
            422,
            "Your request contains errors: 1. body.temperature : Input should be greater than 0.",
        ),
    ],
)
async def test_a_recorded_refusal_is_the_servers_own(
    case: str, expected: type[LLMError], status: int, message: str
) -> None:
    recording = load_recording("gateways", f"{case}_stream")

    async with ReplayServer(always=recording) as server, provider_at(server.base_url) as provider:
        with pytest.raises(expected) as raised:
            await provider.complete(user("Hello"), model="nope" if "model" in case else None)

    assert (type(raised.value), raised.value.status_code, raised.value.retryable) == (expected, status, False)
    assert str(raised.value).startswith(message)
    assert len(server.request_bodies) == 1
