"""A keyword of `complete()` reaches the server, or raises, or is warned of: none is ignored silently."""

import logging
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ChatRequest, Message, ResponseFormatJson

from tests.support.exchange import GET_WEATHER
from tests.support.provider_session import provider_session
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer

ANSWER = load_recording("tiny-qwen3", "r1_answer_stream")
HELLO = [Message(role="user", content="Hello")]
WEATHER = {"type": "function", "name": "get_weather", "description": GET_WEATHER.description}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
JSON_SCHEMA = {"type": "json_schema", "name": "city", "schema": SCHEMA}


async def body_of(keywords: dict[str, Any], request: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    """The body of a request with these keywords."""
    async with ReplayServer(ANSWER) as server, provider_session(server, **config) as (_session, provider):
        await provider.complete(ChatRequest(messages=HELLO, **(request or {})), **keywords)
    (body,) = server.request_bodies
    return body


@pytest.mark.parametrize(
    ("keywords", "request_", "expected"),
    [
        ({"response_format": {"type": "json"}}, {}, {"text": {"format": {"type": "json_object"}}}),
        ({"response_format": {"type": "json_object"}}, {}, {"text": {"format": {"type": "json_object"}}}),
        ({"response_format": ResponseFormatJson()}, {}, {"text": {"format": {"type": "json_object"}}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}},
            {"response_format": {"type": "json"}},
            {"text": {"format": JSON_SCHEMA}},
        ),
        ({"response_format": JSON_SCHEMA | {"strict": True}}, {}, {"text": {"format": JSON_SCHEMA | {"strict": True}}}),
        ({"tools": [GET_WEATHER]}, {}, {"tools": [WEATHER | {"parameters": GET_WEATHER.parameters}]}),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}]},
            {"tools": [GET_WEATHER]},
            {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}]},
        ),
        (
            {"tools": [{"name": "f"}, {"type": "web_search"}]},
            {},
            {"tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}]},
        ),
        (
            {"tools": [{"type": "custom", "name": "sql", "description": "A query.", "format": {"type": "text"}}]},
            {},
            {"tools": [{"type": "custom", "name": "sql", "description": "A query.", "format": {"type": "text"}}]},
        ),
        ({"metadata": {"stream": False}}, {"metadata": {"stream": True}}, {"stream": False}),
        ({"stream": False}, {}, {"stream": False}),
        ({"truncation": "auto"}, {}, {"truncation": "auto"}),
        ({"store": True}, {}, {"store": True}),
        ({"seed": 7}, {}, {"seed": 7}),
        ({"stop": "END"}, {}, {"stop": ["END"]}),
        ({"temperature": "0.5", "max_tokens": "9"}, {}, {"temperature": 0.5, "max_output_tokens": 9}),
        ({"reasoning": False}, {"reasoning_effort": "high"}, {"reasoning": {"effort": "none"}}),
        ({"reasoning": True}, {}, {"reasoning": {"effort": "medium"}}),
        ({"reasoning": {"effort": "low"}}, {}, {"reasoning": {"effort": "low"}}),
        ({"extended_thinking": True}, {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        ({"extended_thinking": True, "reasoning": True}, {}, {"reasoning": {"effort": "medium"}}),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_keyword_reaches_the_server(
    keywords: dict[str, Any], request_: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = await body_of(keywords, request_)

    assert {key: body.get(key) for key in expected} == expected


async def test_thinking_that_an_orchestrator_asks_for_keeps_the_effort_of_the_route() -> None:
    body = await body_of({"extended_thinking": True}, reasoning_effort="high")

    assert body["reasoning"] == {"effort": "high"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"temperature": 5}, "keyword 'temperature' is 5: input should be less than or equal to 2"),
        ({"temperature": "hot"}, "keyword 'temperature' is 'hot': input should be a valid number"),
        ({"top_p": 0}, "keyword 'top_p' is 0: input should be greater than 0"),
        ({"max_output_tokens": 0}, "keyword 'max_output_tokens' is 0: input should be greater than or equal to 1"),
        ({"reasoning_effort": "ultra"}, "keyword 'reasoning_effort' is 'ultra': string should match pattern"),
        ({"reasoning": {"effort": "ultra"}}, "keyword 'reasoning' is {'effort': 'ultra'}: string should match pattern"),
        ({"reasoning": {"level": "low"}}, "keyword 'reasoning' is {'level': 'low'}: extra inputs are not permitted"),
        ({"reasoning": 3}, "keyword 'reasoning' is 3: input should be"),
        ({"truncation": "left"}, "keyword 'truncation' is 'left': input should be 'disabled' or 'auto'"),
        ({"seed": "lucky"}, "keyword 'seed' is 'lucky': input should be a valid integer"),
        ({"timeout": -1}, "keyword 'timeout' is -1: input should be greater than 0"),
        ({"tools": [{"type": "function"}]}, "keyword 'tools' is [{'type': 'function'}]: field required"),
        ({"tools": "bash"}, "keyword 'tools' is 'bash': input should be a valid list"),
        ({"response_format": {"type": "xml"}}, "keyword 'response_format' is {'type': 'xml'}: input"),
        ({"tool_choice": 3}, "keyword 'tool_choice' is 3: input should be a valid"),
        ({"extra_headers": {"X-Key": "ключ"}}, "keyword 'extra_headers' is (hidden): value error, an HTTP header"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_an_impossible_value_of_a_keyword_is_named(given: dict[str, Any], complaint: str) -> None:
    async with ReplayServer() as server, provider_session(server) as (session, provider):
        with pytest.raises(InvalidRequestError) as raised:
            await provider.complete(ChatRequest(messages=HELLO), **given)

    assert complaint.lower() in str(raised.value).lower()
    assert (raised.value.provider, raised.value.retryable) == ("vllm", False)
    assert [event["status"] for event in session.payloads("llm:response")] == ["error"]
    assert server.request_bodies == []


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ({"temperature": -1}, "field 'temperature' of the request is -1"),
        ({"reasoning_effort": "ultra"}, "field 'reasoning_effort' of the request is 'ultra'"),
        ({"max_output_tokens": -5}, "field 'max_output_tokens' of the request is -5"),
    ],
    ids=str,
)
async def test_an_impossible_value_of_the_request_is_named(field: dict[str, Any], complaint: str) -> None:
    async with ReplayServer() as server, provider_session(server) as (_session, provider):
        with pytest.raises(InvalidRequestError, match=complaint):
            await provider.complete(ChatRequest(messages=HELLO, **field))

    assert server.request_bodies == []


async def test_an_unknown_keyword_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="amplifier_module_provider_vllm")
    misspelled: dict[str, Any] = {"temprature": 0.5, "min_p": 0.1}

    async with ReplayServer(ANSWER, ANSWER) as server, provider_session(server) as (_session, provider):
        for _ in range(2):
            await provider.complete(ChatRequest(messages=HELLO), **misspelled)

    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "unknown keyword 'min_p': put it under 'extra_request_params' if it is meant for vLLM",
        "unknown keyword 'temprature': did you mean 'temperature'?",
    ]


async def test_an_unstored_reply_is_not_continued_on_the_server() -> None:
    async with (
        ReplayServer(ANSWER, ANSWER) as server,
        provider_session(server, enable_state=True) as (_session, provider),
    ):
        response = await provider.complete(ChatRequest(messages=HELLO), store=False)
        history = [*HELLO, Message(role="assistant", content=response.content), *HELLO]
        await provider.complete(ChatRequest(messages=history))

    first, second = server.request_bodies
    assert (first["store"], second["store"]) == (False, True)
    assert "previous_response_id" not in second
