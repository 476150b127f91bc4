"""Every recorded exchange of /v1/chat/completions, streamed and whole, as a session gets it."""

import json
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidToolCallError, LLMError, ProviderUnavailableError
from amplifier_core.message_models import (
    ChatRequest,
    ChatResponse,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolSpec,
)

from tests.support.call_events import assert_contract
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recorded_replies import (
    Part,
    RecordedReply,
    error_class,
    recorded_error,
    recorded_reply,
    session_parts,
)
from tests.support.recordings import Recording, cases, load_recording
from tests.support.replay import ReplayServer

GROUPS = ("tiny-qwen3", "tiny-gpt-oss", "tiny-qwen3-flags", "tiny-gpt-oss-faults")
CHAT = "/v1/chat/completions"


def exchanges() -> list[tuple[str, Recording]]:
    named = [(group, case) for group in GROUPS for case in cases(f"chat/{group}")]
    recordings = [(f"{group}/{case}", load_recording(f"chat/{group}", case)) for group, case in named]
    return [(name, recording) for name, recording in recordings if recording.path == CHAT]


EXCHANGES = exchanges()
FAILED = [(name, recording) for name, recording in EXCHANGES if recorded_error(recording) is not None]
REPLIES = [(name, recording) for name, recording in EXCHANGES if recorded_error(recording) is None]


def params(exchanges: list[tuple[str, Recording]]) -> list[Any]:
    return [pytest.param(name, recording, id=name) for name, recording in exchanges]


def request_of(body: dict[str, Any]) -> ChatRequest:
    """What of a recorded request decides how its reply is read: the tools, the cap, the stop strings."""
    functions = [tool["function"] for tool in body.get("tools") or []]
    tools = [ToolSpec(name=one["name"], parameters=one.get("parameters") or {}) for one in functions]
    return ChatRequest(
        messages=[Message(role="user", content="Hello")],
        tools=tools or None,
        tool_choice="none" if body.get("tool_choice") == "none" else None,
        max_output_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=stop_strings(body) or None,
    )


def stop_strings(body: dict[str, Any]) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else stop


async def ask(name: str, recording: Recording, request: ChatRequest, recorder: EventRecorder | None = None) -> Any:
    config = {"endpoint": "chat", "default_model": "tiny-gpt-oss" if is_harmony(name) else "tiny-qwen3"}
    limits = {"max_retries": 0, "max_continuations": 0, "use_streaming": recording.is_stream}
    async with (
        ReplayServer(always=recording) as server,
        provider_at(server.base_url, recorder, **config, **limits) as provider,
    ):
        return await provider.complete(request)


def is_harmony(name: str) -> bool:
    return name.startswith("tiny-gpt-oss")


def parts_of(response: ChatResponse) -> list[Part]:
    return [_part(block) for block in response.content]


def _part(block: object) -> Part:
    match block:
        case ThinkingBlock(thinking=text):
            return "thinking", text
        case TextBlock(text=text):
            return "text", text
        case ToolCallBlock(name=name, input=arguments):
            return "tool_call", name, json.dumps(arguments)
        case _:
            raise AssertionError(f"a reply has no such block: {block!r}")


def in_one_spelling(parts: list[Part]) -> list[Part]:
    return [(*part[:2], json.dumps(json.loads(part[2]))) if part[0] == "tool_call" else part for part in parts]


def is_refused(parts: list[Part], request: ChatRequest) -> bool:
    """Whether a call is of no tool of the request, or its arguments are no JSON."""
    names = {tool.name for tool in request.tools or []}
    return any(part[0] == "tool_call" and (part[1] not in names or not is_json(part[2])) for part in parts)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


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
    assert (len(REPLIES), len(FAILED)) == (591, 137)


@pytest.mark.parametrize(("name", "recording"), params(REPLIES))
async def test_a_session_gets_what_was_recorded(name: str, recording: Recording) -> None:
    request, reply, recorder = request_of(recording.request), recorded_reply(recording), EventRecorder()
    parts = session_parts(reply, request.stop or [], harmony=is_harmony(name))

    if is_refused(parts, request) or not parts:
        with pytest.raises(InvalidToolCallError if parts else ProviderUnavailableError):
            await ask(name, recording, request, recorder)
        return
    response = await ask(name, recording, request, recorder)

    assert parts_of(response) == in_one_spelling(parts)
    assert response.finish_reason == finish_reason(reply, parts)
    assert response.degradation is None
    if reply.usage is not None:
        assert usage_of(response) == recorded_usage(reply.usage)
    if not reply.ends_in_cut_call:  # its block was streamed as a call
        assert_contract(recorder, response)


@pytest.mark.parametrize(("name", "recording"), params(FAILED))
async def test_an_error_has_its_class_whatever_the_status_of_the_reply(name: str, recording: Recording) -> None:
    error = recorded_error(recording)
    assert error is not None

    with pytest.raises(LLMError) as raised:
        await ask(name, recording, ChatRequest(messages=[Message(role="user", content="Hello")]))

    assert type(raised.value) is error_class(error)
    assert raised.value.status_code == error["code"]
    assert raised.value.provider == "vllm"
