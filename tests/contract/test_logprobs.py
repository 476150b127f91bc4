"""Log probabilities: one shape on every endpoint, and told where the server gives fewer than asked for."""

from typing import Any

import pytest

from tests.support.exchange import CAPITAL, WEATHER, open_provider
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply, reply


async def logprobs_of(answer: Reply, **config: Any) -> tuple[list[dict[str, Any]] | None, dict[str, Any], str | None]:
    """The entries of the reply, the request's body and the reason of a degradation."""
    async with ReplayServer(answer) as server, open_provider(server.base_url, **config) as provider:
        response = await provider.complete(CAPITAL, model="tiny-qwen3")
    entries = (response.metadata or {}).get("vllm:logprobs")
    return entries, server.request_bodies[-1], None if response.degradation is None else response.degradation.reason


async def test_an_unstreamed_reply_of_responses_has_one_entry_for_every_token() -> None:
    config = {"endpoint": "responses", "logprobs": 3, "use_streaming": False}

    entries, body, reason = await logprobs_of(reply(load_recording("tiny-qwen3", "logprobs_top3")), **config)

    assert entries is not None
    assert "".join(entry["token"] for entry in entries).startswith("<think>\nThe user asks")
    assert len(entries) == 25
    assert set(entries[0]) == {"token", "logprob", "bytes", "top_logprobs"}
    assert [len(entry["top_logprobs"]) for entry in entries] == [3] * 25
    assert entries[0]["top_logprobs"][0]["bytes"] == list(b"<think>")
    assert (body["include"], body["top_logprobs"]) == (["message.output_text.logprobs"], 3)
    assert reason is not None
    assert "endpoint: chat" in reason


async def test_a_streamed_reply_of_responses_has_those_of_its_text() -> None:
    config = {"endpoint": "responses", "logprobs": 3}

    entries, _, _ = await logprobs_of(reply(load_recording("tiny-qwen3", "logprobs_top3_stream")), **config)

    assert entries is not None
    assert "".join(entry["token"] for entry in entries) == "\n\nThe capital of France is Paris."


async def test_a_reply_without_text_has_none_at_responses() -> None:
    config = {"endpoint": "responses", "logprobs": True, "use_streaming": False}
    recorded = reply(load_recording("tiny-qwen3", "logprobs_tool"))

    async with ReplayServer(recorded) as server, open_provider(server.base_url, **config) as provider:
        response = await provider.complete(WEATHER, model="tiny-qwen3")

    assert "vllm:logprobs" not in (response.metadata or {})
    assert response.degradation is not None


@pytest.mark.parametrize("odd", [[{"token": 5}], {"content": []}, "many", [[0.1]]])
async def test_odd_log_probabilities_cost_themselves_not_the_reply(odd: object) -> None:
    recording = load_recording("tiny-qwen3", "logprobs_top3")
    body = recording.json
    body["output"][-1]["content"][0]["logprobs"] = odd

    entries, _, _ = await logprobs_of(json_reply(200, body), endpoint="responses", logprobs=3, use_streaming=False)

    assert entries is None


async def test_none_are_asked_for_unless_somebody_wants_them() -> None:
    entries, body, reason = await logprobs_of(reply(load_recording("tiny-qwen3", "r1_answer_stream")))

    assert (entries, reason) == (None, None)
    assert {"include", "top_logprobs", "logprobs"} & set(body) == set()


@pytest.mark.parametrize("null", ["bytes", "top_logprobs"])
async def test_what_a_server_leaves_out_of_a_log_probability_is_null(null: str) -> None:
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []} | {null: None}
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop", "logprobs": {"content": [entry]}}
    config = {"endpoint": "chat", "logprobs": 0, "use_streaming": False}

    entries, _, _ = await logprobs_of(json_reply(200, {"choices": [choice]}), **config)

    assert entries is not None
    assert [(entry["token"], entry["logprob"]) for entry in entries] == [("Hi", -0.5)]
