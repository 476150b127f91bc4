"""Any request is encoded to a body that vLLM's own request model accepts, or refused with our message."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ChatRequest, Message, ToolSpec
from hypothesis import HealthCheck, given, settings

from amplifier_module_provider_vllm._ask import TokenPrompt, to_ask
from amplifier_module_provider_vllm._endpoints import encode, fitted
from amplifier_module_provider_vllm._response_handling import BadCall, to_response
from amplifier_module_provider_vllm._tool_repair import repair_tool_sequence
from amplifier_module_provider_vllm._turn import Turn
from tests.live.endpoints import at_every_endpoint
from tests.rig.vllm_protocol import Protocol, vllm_protocol
from tests.support.recordings import Recording, cases, load_recording
from tests.support.request_strategies import ROLES, chat_requests, valid_requests
from tests.support.requests import options
from tests.support.rounds import MODELS, turn_of

pytestmark = pytest.mark.live

RENDERED = TokenPrompt((1, 2, 3))
"""A prompt for completions: the server renders it, before the request is encoded."""


@pytest.fixture(scope="module")
def protocol() -> Iterator[Protocol]:
    with vllm_protocol() as protocol:
        yield protocol


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def body_of(request: ChatRequest, model: str, endpoint: str) -> dict[str, Any]:
    chosen = options(request, config={"endpoint": endpoint}, harmony=model == "tiny-gpt-oss", model=model)
    ask = fitted(to_ask(repair_tool_sequence(request.messages).messages, request, chosen))
    return encode(replace(ask, tokens=RENDERED) if endpoint == "completions" else ask)


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(request=chat_requests())
def test_any_request_is_accepted_by_vllm_or_refused_with_the_reason(
    protocol: Protocol, model: str, endpoint: str, request: ChatRequest
) -> None:
    try:
        body = body_of(request, model, endpoint)
    except InvalidRequestError as refusal:
        message = str(refusal)
        assert any(role in message for role in ROLES) or "image" in message
        return

    assert protocol.objection(body, endpoint) is None


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(request=valid_requests())
def test_a_request_whose_blocks_fit_their_roles_is_accepted_by_vllm(
    protocol: Protocol, model: str, endpoint: str, request: ChatRequest
) -> None:
    assert protocol.objection(body_of(request, model, endpoint), endpoint) is None


@at_every_endpoint
def test_every_recorded_reply_is_accepted_as_history(protocol: Protocol, model: str, endpoint: str) -> None:
    objections = {}
    for group, case, recording in replies_of(model, f"{model}-store", f"{model}-bare"):
        history = stored_history(recording, turn_of(recording))
        if history is None:
            continue
        body = body_of(ChatRequest(messages=history), model, endpoint)
        objections[group, case] = protocol.objection(body, endpoint)

    assert len(objections) > 100
    assert {name: objection for name, objection in objections.items() if objection is not None} == {}


def replies_of(*groups: str) -> list[tuple[str, str, Recording]]:
    """Every recorded /v1/responses reply with a terminal event, streamed or not, complete or incomplete."""
    named = [(group, case, load_recording(group, case)) for group in groups for case in cases(group)]
    return [
        (group, case, recording)
        for group, case, recording in named
        if recording.status == 200
        and (b"event: response.completed" in recording.body if recording.is_stream else _is_reply(recording))
    ]


def _is_reply(recording: Recording) -> bool:
    body = recording.json if recording.body.startswith(b"{") else {}
    return body.get("object") == "response" and body["status"] in ("completed", "incomplete")


def stored_history(recording: Recording, turn: Turn) -> list[Message] | None:
    """The history that a loop stores for a reply: calls, results, and the user's next question.

    None for a call that cannot be run: it never reaches a history.
    """
    tools = [
        ToolSpec(name=tool["name"], parameters=tool.get("parameters") or {})
        for tool in recording.request.get("tools") or []
        if tool.get("type") == "function" and tool.get("name")
    ]
    response = to_response(turn, tools, None)
    if isinstance(response, BadCall):
        return None
    calls = [{"id": call.id, "tool": call.name, "arguments": call.arguments} for call in response.tool_calls or []]
    dumped = {"role": "assistant", "content": [block.model_dump() for block in response.content], "tool_calls": calls}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in calls]
    history = [{"role": "user", "content": "Go."}, dumped, *results, {"role": "user", "content": "And now?"}]
    return [Message.model_validate(message) for message in history]
