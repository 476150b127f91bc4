"""`llm:tokens` says why a prompt does not extend the call before it, and nothing where it does."""

from typing import Any

from amplifier_core import HookResult

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.exchange import CAPITAL
from tests.support.replay import ReplayServer, Reply, json_reply

PROMPT, FIRST, REST = [1, 2], [3, 4], [5]


def chat(content: str, sampled: list[int], finish_reason: str = "stop") -> Reply:
    entries = [{"token": "x", "logprob": -0.5} for _ in sampled]
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "token_ids": sampled}
    reply = {"id": "chatcmpl-1", "model": "tiny", "prompt_token_ids": PROMPT, "usage": usage(PROMPT, sampled)}
    return json_reply(200, reply | {"choices": [choice | {"logprobs": {"content": entries}}]})


def rest() -> Reply:
    choice = {
        "index": 0,
        "text": "two.",
        "finish_reason": "stop",
        "token_ids": REST,
        "prompt_token_ids": PROMPT + FIRST,
    }
    reply = {"id": "cmpl-1", "model": "tiny", "usage": usage(PROMPT + FIRST, REST)}
    return json_reply(200, reply | {"choices": [choice | {"logprobs": {"tokens": ["x"], "token_logprobs": [-0.25]}}]})


def usage(prompt: list[int], sampled: list[int]) -> dict[str, int]:
    return {"prompt_tokens": len(prompt), "completion_tokens": len(sampled)}


async def tokens_told(*replies: Reply) -> list[dict[str, Any]]:
    """The payloads of `llm:tokens` of one call with a cap of two tokens."""
    recorder, told = EventRecorder(), list[dict[str, Any]]()

    async def keep(_event: str, data: dict[str, Any]) -> HookResult:
        told.append(data)
        return HookResult(action="continue")

    recorder.coordinator.hooks.register("llm:tokens", keep)
    config = {"endpoint": "chat", "token_in": True, "use_streaming": False, "max_tokens": 2, "default_model": "tiny"}
    async with (
        ReplayServer(*replies, paths={"/detokenize": json_reply(200, {"prompt": "One, "})}) as server,
        provider_at(server.base_url, recorder, **config) as provider,
    ):
        await provider.complete(CAPITAL)
    return told


async def test_the_continuation_of_a_reply_extends_its_first_round() -> None:
    told = await tokens_told(chat("One, ", FIRST, "length"), rest())

    assert [(call["prompt_token_ids"], call["token_ids"], call["logprobs"]) for call in told] == [
        (PROMPT, FIRST, [-0.5, -0.5]),
        (PROMPT + FIRST, REST, [-0.25]),
    ]
    assert [call["segment"] for call in told] == ["first call", None]


async def test_a_request_that_is_made_again_begins_a_segment() -> None:
    told = await tokens_told(chat("", [9]), chat("One.", FIRST))

    assert [(call["token_ids"], call["segment"]) for call in told] == [([9], "first call"), (FIRST, "asked again")]
