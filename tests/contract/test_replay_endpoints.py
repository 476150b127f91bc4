"""Every recorded exchange of /v1/chat/completions and /v1/completions, streamed and whole, as a session gets it."""

import json
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidToolCallError, LLMError, ProviderUnavailableError
from amplifier_core.message_models import ChatRequest, ChatResponse, Message

from tests.support.call_events import assert_contract
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recorded_replies import (
    Part,
    RecordedReply,
    error_class,
    exchanges,
    in_one_spelling,
    is_harmony,
    is_refused,
    parts_of,
    recorded_error,
    recorded_reply,
    request_of,
    session_parts,
)
from tests.support.recordings import Recording
from tests.support.replay import ReplayServer

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
EXCHANGES = [(endpoint, name, one) for endpoint, path in PATHS.items() for name, one in exchanges(path)]
FAILURES = [one for one in EXCHANGES if recorded_error(one[2]) is not None]
REPLIES = {endpoint: [one for one in EXCHANGES if one[0] == endpoint and one not in FAILURES] for endpoint in PATHS}
RAW = [one for one in REPLIES["completions"] if "/comp_" in one[1] or "flags_" in one[1]]
"""Those whose prompt was a text or some ids, not a rendered conversation."""

HELLO = ChatRequest(messages=[Message(role="user", content="Hello")])


def params(exchanges: list[tuple[str, str, Recording]]) -> list[Any]:
    return [pytest.param(*one, id=f"{one[0]}-{one[1]}") for one in exchanges]


async def ask(
    endpoint: str, name: str, recording: Recording, request: ChatRequest, recorder: EventRecorder | None = None
) -> ChatResponse:
    config = {"endpoint": endpoint, "default_model": "tiny-gpt-oss" if is_harmony(name) else "tiny-qwen3"}
    limits = {"max_retries": 0, "max_continuations": 0, "use_streaming": recording.is_stream}
    async with (
        ReplayServer(always=recording) as server,
        provider_at(server.base_url, recorder, **config, **limits, raw_prompt=endpoint == "completions") as provider,
    ):
        return await provider.complete(request)


def finish_reason(reply: RecordedReply, parts: list[Part]) -> str:
    if reply.is_cut:
        return "length"
    return "tool_calls" if any(part[0] == "tool_call" for part in parts) else "stop"


def usage_of(response: ChatResponse) -> dict[str, int | None]:
    usage = response.usage
    assert usage is not None
    return {
        "prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
        "cached_tokens": usage.cache_read_tokens, "reasoning_tokens": usage.reasoning_tokens,
    }  # fmt: skip


def recorded_usage(usage: dict[str, Any]) -> dict[str, int | None]:
    return {
        "prompt_tokens": usage["prompt_tokens"], "completion_tokens": usage["completion_tokens"],
        "cached_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        "reasoning_tokens": (usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
    }  # fmt: skip


def test_the_recordings_are_all_there() -> None:
    assert {name: len(replies) for name, replies in REPLIES.items()} == {"chat": 591, "completions": 159}
    assert (len(FAILURES), len(RAW)) == (180, 113)


@pytest.mark.parametrize(("endpoint", "name", "recording"), params(REPLIES["chat"]))
async def test_a_session_gets_what_was_recorded(endpoint: str, name: str, recording: Recording) -> None:
    request, reply, recorder = request_of(recording.request), recorded_reply(recording), EventRecorder()
    parts = session_parts(reply, request.stop or [], harmony=is_harmony(name))

    if is_refused(parts, request) or not parts:
        with pytest.raises(InvalidToolCallError if parts else ProviderUnavailableError):
            await ask(endpoint, name, recording, request, recorder)
        return
    response = await ask(endpoint, name, recording, request, recorder)

    assert parts_of(response) == in_one_spelling(parts)
    assert response.finish_reason == finish_reason(reply, parts)
    assert response.degradation is None
    assert json.loads(json.dumps((response.metadata or {}).get("vllm:logprobs", []))) == reply.logprobs
    if reply.usage is not None:
        assert usage_of(response) == recorded_usage(reply.usage)
    if not reply.ends_in_cut_call:  # its block was streamed as a call
        assert_contract(recorder, response)


@pytest.mark.parametrize(("endpoint", "name", "recording"), params(RAW))
async def test_a_raw_prompt_is_answered_with_the_text_as_it_is(endpoint: str, name: str, recording: Recording) -> None:
    reply, recorder = recorded_reply(recording), EventRecorder()

    response = await ask(endpoint, name, recording, HELLO, recorder)

    assert parts_of(response) == reply.parts
    assert response.finish_reason == finish_reason(reply, reply.parts)
    assert response.degradation is None
    if reply.usage is not None:
        counted = 0 if b'"token_ids":[' in recording.body else None  # by us, if there are ids to count
        assert usage_of(response) == recorded_usage(reply.usage) | {"reasoning_tokens": counted}
    assert_contract(recorder, response)


@pytest.mark.parametrize(("endpoint", "name", "recording"), params(FAILURES))
async def test_an_error_has_its_class_whatever_the_status_of_the_reply(
    endpoint: str, name: str, recording: Recording
) -> None:
    error = recorded_error(recording)
    assert error is not None

    with pytest.raises(LLMError) as raised:
        await ask(endpoint, name, recording, HELLO)

    assert type(raised.value) is error_class(error, recording.path)
    assert raised.value.status_code == error["code"]
    assert raised.value.provider == "vllm"
