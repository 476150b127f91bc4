"""A chat reply that ends with a call exactly at its cap: vLLM reports `tool_calls`, cut or not."""

from typing import Any

import pytest
from amplifier_core.message_models import ChatResponse

from tests.support.exchange import TWO_WEATHERS, open_provider
from tests.support.replay import NOT_FOUND, ReplayServer, Reply, json_reply

PROMPT, SAMPLED, REST = [1, 2, 3], [11, 12, 13], [14, 15]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
SECOND = '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "London"}}\n</tool_call>'


def chat_reply(**choice: Any) -> Reply:
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    message = {"role": "assistant", "tool_calls": [{"id": "call-1", "type": "function", "function": function}]}
    cut = {"index": 0, "message": message, "finish_reason": "tool_calls", "token_ids": SAMPLED, **choice}
    usage = {"prompt_tokens": 3, "completion_tokens": 3}
    return json_reply(200, {"id": "c", "choices": [cut], "prompt_token_ids": PROMPT, "usage": usage})


def completion(text: str) -> Reply:
    choice = {"index": 0, "text": text, "finish_reason": "stop", "token_ids": REST}
    usage = {"prompt_tokens": 6, "completion_tokens": 2}
    return json_reply(200, {"id": "d", "choices": [choice | {"prompt_token_ids": [*PROMPT, *SAMPLED]}], "usage": usage})


async def reply_of(*replies: Reply, detokenized: Reply, **config: Any) -> tuple[ChatResponse, list[str]]:
    """The response, and the paths that were asked."""
    config = {"endpoint": "chat", "max_tokens": 3, "use_streaming": False, "default_model": "tiny-qwen3", **config}
    async with (
        ReplayServer(*replies, paths={"/detokenize": detokenized}) as server,
        open_provider(server.base_url, **config) as provider,
    ):
        response = await provider.complete(TWO_WEATHERS)
    return response, [request.path for request in server.requests if request.method == "POST"]


def cities(response: ChatResponse) -> list[str]:
    return [call.arguments["city"] for call in response.tool_calls or []]


async def test_a_reply_whose_last_token_is_the_end_of_a_call_goes_on() -> None:
    response, paths = await reply_of(chat_reply(), completion(SECOND), detokenized=json_reply(200, {"prompt": CALL}))

    assert cities(response) == ["Paris", "London"]
    assert response.finish_reason == "tool_calls"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 5)
    assert paths[0] == "/v1/chat/completions"
    assert paths[-1] == "/v1/completions"


@pytest.mark.parametrize(
    "detokenized", [json_reply(200, {"prompt": f"{CALL}<|im_end|>"}), NOT_FOUND, json_reply(500, {"error": "no"})]
)
async def test_one_with_an_end_token_or_of_an_unknown_text_is_complete(detokenized: Reply) -> None:
    response, paths = await reply_of(chat_reply(), detokenized=detokenized)

    assert (cities(response), response.finish_reason) == (["Paris"], "tool_calls")
    assert "/v1/completions" not in paths


async def test_one_that_a_token_has_stopped_is_complete_and_nobody_is_asked() -> None:
    response, paths = await reply_of(chat_reply(stop_reason=200012), detokenized=NOT_FOUND)

    assert cities(response) == ["Paris"]
    assert paths == ["/v1/chat/completions"]


async def test_a_caller_who_capped_the_reply_gets_it_as_it_is() -> None:
    async with (
        ReplayServer(chat_reply()) as server,
        open_provider(server.base_url, endpoint="chat", use_streaming=False, default_model="tiny-qwen3") as provider,
    ):
        response = await provider.complete(TWO_WEATHERS, max_output_tokens=3)

    assert cities(response) == ["Paris"]
    assert len(server.request_bodies) == 1
