"""What a model says is the same reply on every endpoint, streamed or not, in reads of any size."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from amplifier_core.message_models import ChatResponse

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.call_events import EventCounts, assert_contract, event_counts
from tests.support.exchange import GET_WEATHER, comparable, user
from tests.support.provider_session import provider_session
from tests.support.replay import ReplayServer, Reply
from tests.support.session import Session
from tests.support.speaker import ANSWERS, SPEAKERS, spoken
from tests.support.speech import ANSWER_TEXT, REASONING_TEXT, Speech, call_part, reasoning_part, text_part

REQUEST: Final = user("What is the weather?", GET_WEATHER)
PARIS: Final = call_part("get_weather", '{"', "city", '": "', "Paris", '"}', call_id="call_1")
ZURICH: Final = call_part("get_weather", '{"city": ', '"Zürich 🗼"}', call_id="call_2")
THOUGHT: Final = reasoning_part("They ", "want ", "cities.")

SPEECHES: Final[Mapping[str, Speech]] = {
    "a text": Speech((text_part("Zürich, ", "東京, ", "Paris 🗼."),)),
    "a text in one piece": Speech((text_part("Paris."),)),
    "a thought and a text": Speech((THOUGHT, text_part("Paris", "."))),
    "a call": Speech((PARIS,)),
    "a thought and a call": Speech((THOUGHT, PARIS)),
    "a text and a call": Speech((text_part("I ", "look.\n"), PARIS)),
    "a thought, a text and two calls": Speech((THOUGHT, text_part("I look.\n"), PARIS, ZURICH)),
    "a text with angle brackets": Speech((text_part("if a <", " b: <b>", "bold</b> <", "tool>"),)),
    "a text with braces": Speech((text_part('{"city": ', '"Paris"}'),)),
    "a text with empty lines": Speech((text_part("One.\n", "\n", "\nTwo.", "\n", "    code\n\n", "End."),)),
    "a long text": Speech((text_part(*[f"{number}, " for number in range(300)]),)),
}
READS: Final = {"at once": None, "in small reads": 23, "byte by byte": 1}

each_endpoint = pytest.mark.parametrize("endpoint", ANSWERS)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


async def call(
    endpoint: EndpointName, reply: Reply, *, stream: bool = True, **kwargs: Any
) -> tuple[Session, ChatResponse]:
    """The response of a call, with the events of its session."""
    async with (
        ReplayServer(reply) as server,
        provider_session(server, endpoint=endpoint, use_streaming=stream) as (session, provider),
    ):
        return session, await provider.complete(REQUEST, **kwargs)


@both_ways
@each_endpoint
@pytest.mark.parametrize("name", SPEECHES)
async def test_a_reply_has_what_the_model_says(name: str, endpoint: EndpointName, stream: bool) -> None:
    speech = replace(SPEECHES[name], input_tokens=120, output_tokens=30, cached_tokens=64)

    session, response = await call(endpoint, spoken(SPEAKERS[endpoint], speech, stream=stream), stream=stream)

    assert [_content(block) for block in response.content] == [_said(part) for part in speech.parts]
    assert response.finish_reason == ("tool_calls" if speech.calls else "stop")
    assert [(one.name, one.arguments) for one in response.tool_calls or []] == [
        (part.name, json.loads(part.text)) for part in speech.calls
    ]
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (120, 30, 150)
    assert response.usage.cache_read_tokens == 64
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, response)


@each_endpoint
@pytest.mark.parametrize("name", ["a thought, a text and two calls", "a text with angle brackets"])
async def test_a_reply_does_not_depend_on_its_delivery(name: str, endpoint: EndpointName) -> None:
    whole = spoken(SPEAKERS[endpoint], SPEECHES[name], stream=False)
    replies = [whole, *(spoken(SPEAKERS[endpoint], SPEECHES[name], piece=piece) for piece in READS.values())]

    responses = [_without_counts(comparable((await call(endpoint, reply))[1])) for reply in replies]

    assert responses == [responses[0]] * len(replies)


@pytest.mark.parametrize("name", SPEECHES)
async def test_a_reply_does_not_depend_on_the_endpoint(name: str) -> None:
    replies = [(endpoint, spoken(SPEAKERS[endpoint], SPEECHES[name])) for endpoint in ANSWERS]

    responses = [_without_counts(comparable((await call(endpoint, reply))[1])) for endpoint, reply in replies]

    assert responses == [responses[0]] * len(replies)


@both_ways
@each_endpoint
async def test_a_reply_that_the_callers_cap_cut_has_length_and_what_there_is(
    endpoint: EndpointName, stream: bool
) -> None:
    speech = Speech((reasoning_part(REASONING_TEXT), text_part("Zürich, ", "東京")), "length")

    session, response = await call(
        endpoint, spoken(SPEAKERS[endpoint], speech, stream=stream), stream=stream, max_output_tokens=8
    )

    assert [_content(block) for block in response.content] == [("thinking", REASONING_TEXT), ("text", "Zürich, 東京")]
    assert response.finish_reason == "length"
    assert_contract(session, response)


@both_ways
@each_endpoint
@pytest.mark.parametrize("arguments", ['{"ci', '{"city": "Paris"}', "{}"], ids=["broken", "whole", "empty"])
async def test_no_call_runs_that_the_callers_cap_cut(arguments: str, endpoint: EndpointName, stream: bool) -> None:
    """A call that is cut before its arguments gets `{}` on chat (vLLM 0.32); elsewhere `{}` is what the model says."""
    if endpoint != "chat":
        arguments = arguments[:1]
    speech = Speech((THOUGHT, text_part("I look.\n"), call_part("get_weather", arguments)), "length")

    _, response = await call(
        endpoint, spoken(SPEAKERS[endpoint], speech, stream=stream), stream=stream, max_output_tokens=8
    )

    assert response.tool_calls is None
    assert response.finish_reason == "length"
    assert _content(response.content[0]) == ("thinking", REASONING_TEXT)


@both_ways
@each_endpoint
async def test_of_two_calls_the_one_that_the_callers_cap_cut_never_runs(endpoint: EndpointName, stream: bool) -> None:
    speech = Speech((PARIS, call_part("get_weather", '{"city": "Lon', call_id="call_2")), "length")

    _, response = await call(
        endpoint, spoken(SPEAKERS[endpoint], speech, stream=stream), stream=stream, max_output_tokens=8
    )

    assert [one.arguments for one in response.tool_calls or []] in ([], [{"city": "Paris"}])
    assert response.finish_reason == "length"


@both_ways
@each_endpoint
async def test_calls_with_the_same_arguments_are_two_calls_with_two_ids(endpoint: EndpointName, stream: bool) -> None:
    speech = Speech((PARIS, replace(PARIS, call_id="call_2")))

    _, response = await call(endpoint, spoken(SPEAKERS[endpoint], speech, stream=stream), stream=stream)

    first, second = response.tool_calls or []
    assert first.arguments == second.arguments
    assert first.id != second.id


@each_endpoint
async def test_a_text_is_shown_before_the_reply_is_complete(endpoint: EndpointName) -> None:
    answer = ANSWERS[endpoint]
    slow = answer.sse(piece=200, delay_between_pieces=0.01)

    session, _ = await call(endpoint, slow)

    deltas = [data["text"] for data in session.payloads("llm:stream_block_delta")]
    assert len(deltas) >= 5
    assert "".join(deltas) == REASONING_TEXT + ANSWER_TEXT


def _said(part: Any) -> tuple[str, str | dict[str, Any]]:
    match part.kind:
        case "reasoning":
            return "thinking", part.text
        case "text":
            return "text", part.text
        case _:
            return part.name, json.loads(part.text)


def _content(block: Any) -> tuple[str, str | dict[str, Any]]:
    match block.type:
        case "thinking":
            return "thinking", block.thinking
        case "text":
            return "text", block.text
        case _:
            return block.name, block.input


def _without_counts(response: dict[str, Any]) -> dict[str, Any]:
    """Not every endpoint counts the tokens of the reasoning; from a whole text they are estimated."""
    return {**response, "usage": {**response["usage"], "reasoning_tokens": None}}
