"""Log probabilities: one entry for each sampled token, in the same shape, on every endpoint that tells them."""

from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, ChatResponse

from tests.live.endpoints import later, with_token_ids
from tests.rig.server import LiveServer
from tests.support.exchange import CAPITAL, WEATHER, block_contents, open_provider, user

pytestmark = pytest.mark.live

CAP = 7
ALTERNATIVES = 2

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
of_a_call_and_an_answer = pytest.mark.parametrize(
    "question", [pytest.param(WEATHER, id="call"), pytest.param(CAPITAL, id="answer", marks=later)]
)


@with_token_ids
@both_ways
@of_a_call_and_an_answer
async def test_each_sampled_token_has_an_entry(
    server: LiveServer, endpoint: str, question: ChatRequest, stream: bool
) -> None:
    response = await _reply(server, question, endpoint=endpoint, use_streaming=stream)

    entries = _entries(response)
    assert response.usage is not None
    assert len(entries) == response.usage.output_tokens
    assert {frozenset(entry) for entry in entries} == {frozenset({"token", "logprob", "bytes", "top_logprobs"})}
    assert {frozenset(top) for entry in entries for top in entry["top_logprobs"]} == {
        frozenset({"token", "logprob", "bytes"})
    }
    # Which is the likeliest, at temperature 0.
    assert [entry["top_logprobs"][0]["token"] for entry in entries] == [entry["token"] for entry in entries]
    assert {len(entry["top_logprobs"]) for entry in entries} == {ALTERNATIVES}


@pytest.mark.usefixtures("vocabulary")
@both_ways
@of_a_call_and_an_answer
async def test_the_entries_are_the_same_at_chat_and_at_completions(
    server: LiveServer, question: ChatRequest, stream: bool
) -> None:
    told = [
        _entries(await _reply(server, question, endpoint=endpoint, use_streaming=stream))
        for endpoint in ("chat", "completions")
    ]

    assert _tokens(told[0]) == _tokens(told[1])
    assert [entry["logprob"] for entry in told[0]] == pytest.approx([entry["logprob"] for entry in told[1]], abs=0.05)


@with_token_ids
@both_ways
@of_a_call_and_an_answer
async def test_the_entries_of_a_continued_reply_are_those_of_the_uncut_one(
    server: LiveServer, endpoint: str, question: ChatRequest, stream: bool
) -> None:
    config = {"endpoint": endpoint, "use_streaming": stream}

    uncut = await _reply(server, question, **config)
    cut = await _reply(server, question, **config, max_tokens=CAP, max_continuations=10)

    assert block_contents(cut) == block_contents(uncut)
    assert _tokens(_entries(cut)) == _tokens(_entries(uncut))


@both_ways
async def test_at_responses_the_missing_ones_are_reported(server: LiveServer, stream: bool) -> None:
    response = await _reply(server, CAPITAL, endpoint="responses", use_streaming=stream)

    assert block_contents(response)[-1] == ("text", "The capital of France is Paris.")
    assert response.degradation is not None
    assert response.degradation.requested.startswith("logprobs")
    assert "endpoint: chat" in response.degradation.reason
    has_any = bool((response.metadata or {}).get("vllm:logprobs"))
    assert has_any == (server.model == "tiny-qwen3")


@both_ways
async def test_auto_asks_gpt_oss_at_chat_for_them(gpt_oss: LiveServer, stream: bool) -> None:
    response = await _reply(gpt_oss, CAPITAL, use_streaming=stream)

    assert response.usage is not None
    assert len(_entries(response)) == response.usage.output_tokens


@both_ways
async def test_a_raw_prompt_is_continued_as_it_stands_and_echoed(qwen: LiveServer, stream: bool) -> None:
    prompt = (
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    config = {"endpoint": "completions", "raw_prompt": True, "use_streaming": stream}

    async with open_provider(qwen.base_url, **config) as provider:
        plain: Any = await provider.complete(user(prompt))
    async with open_provider(qwen.base_url, **config, echo=True) as provider:
        echoed: Any = await provider.complete(user(prompt))

    assert plain.text == "The capital of France is Paris."
    assert echoed.text == prompt + plain.text
    assert plain.degradation is None


async def _reply(server: LiveServer, question: ChatRequest, **config: Any) -> ChatResponse:
    async with open_provider(server.base_url, logprobs=ALTERNATIVES, **config) as provider:
        return await provider.complete(question)


def _entries(response: ChatResponse) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (response.metadata or {})["vllm:logprobs"]
    return entries


def _tokens(entries: list[dict[str, Any]]) -> list[tuple[str, list[int]]]:
    return [(entry["token"], entry["bytes"]) for entry in entries]
