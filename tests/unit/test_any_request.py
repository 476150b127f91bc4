"""Any valid request is encoded or refused with a message; the live tests check the bodies with vLLM's own model."""

import json

import pytest
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ChatRequest
from hypothesis import given, settings

from amplifier_module_provider_vllm._ask import to_ask
from amplifier_module_provider_vllm._responses.encode import encode
from amplifier_module_provider_vllm._tokenize import count_bodies
from amplifier_module_provider_vllm._tool_repair import repair_tool_sequence
from tests.support.request_strategies import chat_requests, valid_requests
from tests.support.requests import options


@pytest.mark.parametrize("harmony", [False, True], ids=["chat template", "harmony"])
@settings(max_examples=200)
@given(request=chat_requests())
def test_any_request_is_encoded_or_refused(harmony: bool, request: ChatRequest) -> None:
    before = request.model_copy(deep=True)
    repaired = repair_tool_sequence(request.messages)

    try:
        body = encode(to_ask(repaired.messages, request, options(request, harmony=harmony)))
    except InvalidRequestError:
        return

    calls = [item["call_id"] for item in body["input"] if item["type"] == "function_call"]
    results = [item["call_id"] for item in body["input"] if item["type"] == "function_call_output"]
    assert json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    assert set(calls) == set(results)
    assert request == before


@pytest.mark.parametrize("harmony", [False, True], ids=["chat template", "harmony"])
@settings(max_examples=200)
@given(request=valid_requests())
def test_no_request_whose_blocks_fit_their_roles_is_refused(harmony: bool, request: ChatRequest) -> None:
    """Every call is followed by its result, and no instruction of its own stands between them."""
    before = request.model_copy(deep=True)
    repaired = repair_tool_sequence(request.messages)

    body = encode(to_ask(repaired.messages, request, options(request, harmony=harmony)))

    waiting: set[str] = set()
    for item in body["input"]:
        assert not (waiting and str(item.get("content")).startswith(("<system-reminder>", "<context_file>")))
        waiting |= {item["call_id"]} if item["type"] == "function_call" else set()
        waiting -= {item["call_id"]} if item["type"] == "function_call_output" else set()
    assert not waiting
    assert json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    assert request == before


@pytest.mark.parametrize("harmony", [False, True], ids=["chat template", "harmony"])
@given(request=chat_requests() | valid_requests())
def test_any_request_that_can_be_sent_can_be_asked_about(harmony: bool, request: ChatRequest) -> None:
    repaired = repair_tool_sequence(request.messages)
    try:
        ask = to_ask(repaired.messages, request, options(request, harmony=harmony))
    except InvalidRequestError:
        return

    bodies = count_bodies(ask)

    assert json.dumps(bodies, ensure_ascii=False, allow_nan=False).encode()
