"""The usage of a reply if the server counts tokens, if it does not, and if nobody can."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse, Message, ToolSpec, Usage

from amplifier_module_provider_vllm._harmony.vocabulary import shared_vocabulary
from tests.support.event_recorder import provider_at
from tests.support.exchange import user
from tests.support.recordings import Recording, load_recording
from tests.support.replay import ReplayServer
from tests.support.vocabulary import vocabulary_folder

ZEROS = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
CLOSED = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _fresh_vocabulary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))
    shared_vocabulary.cache_clear()
    yield
    shared_vocabulary.cache_clear()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No vocabulary on this machine, and no download."""
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", CLOSED)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def with_usage(recording: Recording, usage: dict[str, Any] | None) -> Recording:
    """The same reply with this usage."""
    if not recording.is_stream:
        return recording.with_body(json.dumps({**recording.json, "usage": usage}).encode())
    before, data = recording.body.rsplit(b"data: ", 1)
    ended = json.loads(data)
    ended["response"]["usage"] = usage
    return recording.with_body(before + b"data: " + json.dumps(ended).encode() + b"\n\n")


def request_of(recording: Recording) -> ChatRequest:
    """The session's request for the recorded one."""
    tools = [ToolSpec.model_validate(tool) for tool in recording.request.get("tools", [])]
    question = Message(role="user", content=recording.request["input"])
    return ChatRequest(messages=[question], tools=tools or None, metadata={"stream": recording.is_stream})


async def run_call(*replies: Recording) -> ChatResponse:
    model = replies[0].request["model"]
    async with (
        ReplayServer(*replies, models=load_recording(model, "get_v1_models")) as server,
        provider_at(server.base_url) as provider,
    ):
        return await provider.complete(request_of(replies[0]))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "[TOKEN_ACCOUNTING]" in record.getMessage()]


@pytest.mark.parametrize("usage", [ZEROS, None], ids=["zeros", "null"])
@pytest.mark.parametrize("case", ["r2_tool_stream", "r2_tool"], ids=["streamed", "unstreamed"])
async def test_tokens_missing_from_the_servers_usage_are_counted(
    case: str, usage: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    recording = load_recording("tiny-gpt-oss", case)
    really = (await run_call(recording)).usage

    response = await run_call(with_usage(recording, usage))

    assert really is not None
    counted = {"input_tokens": really.input_tokens, "output_tokens": really.output_tokens}
    assert response.usage == Usage(**counted, total_tokens=really.total_tokens, reasoning_tokens=9)
    assert response.metadata is not None
    assert response.metadata["vllm:usage_estimated"] is True
    assert warnings(caplog) == [
        "[TOKEN_ACCOUNTING] Loaded Harmony GPT-OSS encoder",
        "[TOKEN_ACCOUNTING] Injected usage: input=127, output=34",
    ]


async def test_the_servers_own_counts_are_not_changed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    theirs = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}

    response = await run_call(with_usage(load_recording("tiny-gpt-oss", "r2_tool_stream"), theirs))

    assert response.usage == Usage(**theirs)
    assert "vllm:usage_estimated" not in (response.metadata or {})
    assert warnings(caplog) == []


async def test_a_repeated_reply_sums_the_usage_of_both_rounds() -> None:
    cut, whole = (
        load_recording("tiny-gpt-oss", "r5_long_cut_stream"),
        load_recording("tiny-gpt-oss", "r5_long_whole_stream"),
    )
    first, second = (
        json.loads(recording.body.rsplit(b"data: ", 1)[1])["response"]["usage"] for recording in (cut, whole)
    )

    response = await run_call(with_usage(cut, ZEROS), with_usage(whole, None))

    assert response.usage is not None
    assert response.usage.input_tokens == second["input_tokens"]
    assert abs(response.usage.output_tokens - first["output_tokens"] - second["output_tokens"]) <= 2
    assert response.metadata is not None
    assert response.metadata["vllm:usage_estimated"] is True
    assert response.metadata["vllm:billed_tokens"]["input_tokens"] == first["input_tokens"] + second["input_tokens"]


async def test_tokens_of_other_models_are_not_estimated(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    response = await run_call(with_usage(load_recording("tiny-qwen3", "r2_tool_stream"), ZEROS))

    assert response.usage is None
    assert "vllm:usage_estimated" not in (response.metadata or {})
    assert warnings(caplog) == []


@pytest.mark.usefixtures("offline")
async def test_without_the_vocabulary_a_reply_has_no_usage_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    uncounted = with_usage(load_recording("tiny-gpt-oss", "r2_tool_stream"), ZEROS)

    async with (
        ReplayServer(uncounted, uncounted) as server,
        provider_at(server.base_url, default_model="tiny-gpt-oss") as provider,
    ):
        responses = [await provider.complete(request_of(uncounted)) for _ in range(2)]

    assert [response.usage for response in responses] == [None, None]
    assert [[call.name for call in response.tool_calls or []] for response in responses] == [["get_weather"]] * 2
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("truncation", "tokens", "warnings"),
    [("auto", (4095, 1), 1), ("auto", (4000, 96), 1), ("auto", (4000, 95), 0), ("disabled", (4095, 1), 0)],
    ids=["cut", "full", "not full", "not asked for"],
)
async def test_a_prompt_that_may_have_been_cut_off_is_warned_of_once_a_reply(
    truncation: str, tokens: tuple[int, int], warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    answer = with_usage(load_recording("tiny-qwen3", "r1_answer_stream"), usage)

    async with (
        ReplayServer(always=answer) as server,
        provider_at(server.base_url, truncation=truncation) as provider,
    ):
        for _ in range(2):
            caplog.clear()
            await provider.complete(user("Hello"))

    told = [record.message for record in caplog.records if "truncation: auto" in record.message]
    assert len(told) == warnings
    assert all(f"tiny-qwen3 was given {tokens[0]:,} of 4,096 tokens" in line for line in told)
