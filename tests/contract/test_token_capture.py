"""`return_token_ids`: the session is told the exact tokens of every model call, and nothing else changes."""

from typing import Any

import pytest
from amplifier_core.llm_errors import ConfigurationError

from amplifier_module_provider_vllm import VLLMProvider
from amplifier_module_provider_vllm._observability import EVENTS
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.exchange import CAPITAL
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, reply
from tests.support.token_server import Sampled, TokenServer
from tests.support.token_session import TokenSession, said, token_session

ANSWER = Sampled("It is 17 degrees.")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_each_call_tells_its_prompt_its_tokens_and_their_log_probabilities(stream: bool) -> None:
    server = TokenServer([ANSWER])

    async with token_session(server, return_token_ids=True, use_streaming=stream) as session:
        response = await session.ask(said("Weather?"), max_output_tokens=50)
    (event,) = session.events

    assert event["prompt_token_ids"] == server.prompts[0]
    assert event["token_ids"] == ANSWER.ids
    assert event["logprobs"] == [-one / 1000 for one in ANSWER.ids]
    assert (event["finish_reason"], event["endpoint"], event["call_index"]) == ("stop", "chat", 0)
    assert event["request_id"] == session.recorder.payloads("llm:response")[0]["request_id"]
    assert event["content"] == [{"type": "text", "text": "It is 17 degrees."}]
    assert event["sampling"] == {"max_tokens": 50}
    assert event["usage"] == {"input_tokens": len(server.prompts[0]), "output_tokens": len(ANSWER.ids)}
    assert "vllm:logprobs" not in (response.metadata or {})


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ({"weight_versions": [{"version": "6", "start": 0, "end": 2}, {"version": 7, "start": 2, "end": 9}]}, "7"),
        ({"metadata": {"weight_version": "step-12"}}, "step-12"),
        ({"metadata": {"weight_version": None}}, None),
        ({"weight_versions": []}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_the_version_of_the_weights_is_told_where_the_server_tells_it(
    told: dict[str, Any], version: str | None, stream: bool
) -> None:
    server = TokenServer([ANSWER], also_tells=told)

    async with token_session(server, return_token_ids=True, use_streaming=stream) as session:
        await session.ask(said("Weather?"))

    assert session.events[0]["policy_version"] == version


async def test_a_history_that_goes_back_as_messages_sends_no_ids() -> None:
    server = TokenServer([ANSWER, ANSWER])

    async with token_session(server, return_token_ids=True) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))

    assert server.sent_ids == [None, None]
    assert [event["token_in"] for event in session.events] == [False, False]


async def test_the_log_probabilities_that_were_asked_for_stay_in_the_reply() -> None:
    server = TokenServer([ANSWER])

    async with token_session(server, return_token_ids=True, logprobs=True) as session:
        response = await session.ask(said("Weather?"))

    assert len((response.metadata or {})["vllm:logprobs"]) == len(ANSWER.ids)


async def test_logs_are_not_filled_with_token_ids() -> None:
    assert "llm:tokens" not in EVENTS


async def test_a_server_without_token_ids_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    server = TokenServer([ANSWER, ANSWER], tells_ids=False)

    async with token_session(server, return_token_ids=True) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))

    assert session.events == []
    assert caplog.text.count("gives no token ids") == 1


async def test_a_reply_that_broke_is_told_only_when_it_is_whole() -> None:
    recording = load_recording("chat/tiny-qwen3", "chat_usage_continuous_token_ids_stream")
    broken, recorder = reply(recording, cut_at=900, ending="cut"), EventRecorder()
    async with (
        ReplayServer(broken, recording) as server,
        provider_at(server.base_url, recorder, return_token_ids=True) as provider,
    ):
        session = TokenSession(provider, recorder)
        recorder.coordinator.hooks.register("llm:tokens", session.hear, priority=0, name="hear-tokens")
        await provider.complete(CAPITAL, model="tiny-qwen3")

    assert len(session.events) == 1


async def test_disabled_tools_are_not_sent_in_any_way() -> None:
    server = TokenServer([ANSWER])

    async with server() as replay:
        provider = VLLMProvider(
            replay.base_url,
            config={
                "endpoint": "chat",
                "disable_tools": True,
                "extra_request_params": {"tool_choice": "auto"},
                "hosted_tools": ["web_search"],
            },
        )
        session = TokenSession(provider, EventRecorder())
        await session.ask(said("Weather?"), tool_choice="required")
        await provider.close()
    (body,) = [request.json for request in replay.requests if request.method == "POST"]

    assert body.keys().isdisjoint({"tools", "tool_choice", "parallel_tool_calls"})


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"return_token_ids": True, "endpoint": "responses"}, "endpoint: responses"),
        ({"token_in": "true", "endpoint": "responses"}, "endpoint: responses"),
        ({"return_token_ids": True, "extra_request_params": {"include_reasoning": False}}, "include_reasoning: false"),
        ({"return_token_ids": True, "echo": True}, "`echo`"),
        ({"token_in": True, "endpoint": "completions"}, "endpoint: completions"),
        ({"token_in": True, "raw_prompt": True}, "raw_prompt"),
    ],
)
def test_what_hides_the_token_ids_is_an_error_of_the_config(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        VLLMProvider("http://127.0.0.1:1", config=config)
