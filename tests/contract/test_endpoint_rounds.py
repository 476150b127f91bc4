"""The rounds of one call on every endpoint: continued, corrected, repeated, and observed."""

import json
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidToolCallError, NotFoundError, ProviderUnavailableError
from amplifier_core.message_models import ChatResponse, TextBlock

from tests.support.call_events import EventCounts, assert_contract, event_counts
from tests.support.exchange import GET_WEATHER, block_contents, user
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import NOT_FOUND, ReplayServer, Reply
from tests.support.speaker import ANSWERS, Answer, spoken
from tests.support.speech import ANSWER_TEXT, REASONING_TEXT, Speech, call_part, reasoning_part, text_part

REQUEST = user("What is the weather?", GET_WEATHER)
CUT = Speech((reasoning_part("They want ", "cities."), text_part("Zürich, ", "東京")), "length", 100, 6)
REST = Speech((text_part(", Paris", "."),), input_tokens=106, output_tokens=3, follows=CUT)
BROKEN = Speech((call_part("get_weather", '{"city": ', "Paris}"),))
GOOD = Speech((call_part("get_weather", '{"city": ', '"Paris"}'),))

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


@both_ways
async def test_a_text_that_our_own_cap_cut_goes_on_in_its_block(answer: Answer, stream: bool) -> None:
    replies = [spoken(answer.speaker, speech, stream=stream) for speech in (CUT, REST)]
    config: dict[str, Any] = {"endpoint": answer.endpoint, "use_streaming": stream, "max_output_tokens": 10}

    async with ReplayServer(*replies) as server, provider_session(server, **config) as (session, provider):
        response = await provider.complete(CITIES)

    assert block_contents(response) == [("thinking", "They want cities."), ("text", "Zürich, 東京, Paris.")]
    assert response.finish_reason == "stop"
    assert response.usage is not None
    # By token ids, the reply so far is not a prompt; by messages, the last round's prompt is what counts.
    prompt = 100 if answer.endpoint == "completions" else 106
    assert (response.usage.input_tokens, response.usage.output_tokens) == (prompt, 9)
    assert len(server.request_bodies) == 2
    assert event_counts(session) == EventCounts(1, ["ok"], retries=0, aborted=0)
    assert_contract(session, response)


@both_ways
async def test_the_model_gets_the_error_of_a_bad_call_and_corrects_it(answer: Answer, stream: bool) -> None:
    replies = [spoken(answer.speaker, speech, stream=stream) for speech in (BROKEN, GOOD)]
    config: dict[str, Any] = {"endpoint": answer.endpoint, "use_streaming": stream}

    async with ReplayServer(*replies) as server, provider_session(server, **config) as (_, provider):
        response = await provider.complete(REQUEST)

    first, second = _prompts(server, answer)
    assert "Error: the model called 'get_weather' with arguments that are not" not in first
    assert "Error: the model called 'get_weather' with arguments that are not" in second
    assert block_contents(response) == [("get_weather", {"city": "Paris"})]
    assert response.finish_reason == "tool_calls"


async def test_a_call_that_stays_bad_is_an_error_with_the_models_output(answer: Answer) -> None:
    async with (
        ReplayServer(*[spoken(answer.speaker, BROKEN)] * 2) as server,
        provider_session(server, endpoint=answer.endpoint) as (session, provider),
    ):
        with pytest.raises(InvalidToolCallError) as raised:
            await provider.complete(REQUEST)

    assert (raised.value.tool_name, raised.value.raw_arguments) == ("get_weather", BROKEN.parts[0].text)
    assert len(server.request_bodies) == 2
    assert event_counts(session).statuses == ["error"]


@both_ways
@pytest.mark.parametrize("answer", [ANSWERS["chat"], ANSWERS["completions"]], ids=["chat", "completions"])
async def test_a_call_of_a_tool_that_was_not_offered_is_not_run(answer: Answer, stream: bool) -> None:
    """On /v1/responses the server itself tells such a call from others."""
    stray = Speech((reasoning_part(REASONING_TEXT), call_part("get_wether", '{"city": "Paris"}')))
    replies = [spoken(answer.speaker, speech, stream=stream) for speech in (stray, GOOD)]
    config: dict[str, Any] = {"endpoint": answer.endpoint, "use_streaming": stream}

    async with ReplayServer(*replies) as server, provider_session(server, **config) as (_, provider):
        response = await provider.complete(REQUEST)

    assert [call.name for call in response.tool_calls or []] == ["get_weather"]


async def test_a_stream_that_breaks_is_aborted_and_its_retry_streams_from_the_start(answer: Answer) -> None:
    broken = answer.sse(cut_at=answer.stall_offset, ending="cut")

    async with (
        ReplayServer(broken, answer.sse()) as server,
        provider_session(server, endpoint=answer.endpoint) as (session, provider),
    ):
        response = await provider.complete(CITIES)

    starts = [data["block_index"] for data in session.payloads("llm:stream_block_start")]
    assert starts == [0, 1, 0, 1]
    assert server.request_bodies[0] == server.request_bodies[1]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=1, aborted=1)
    assert_contract(session, response)


async def test_an_empty_404_of_a_server_that_lists_the_model_is_retried(answer: Answer) -> None:
    async with (
        ReplayServer(Reply(404, {}, b""), answer.sse()) as server,
        provider_session(server, endpoint=answer.endpoint) as (session, provider),
    ):
        response = await provider.complete(CITIES)

    assert _text(response) == ANSWER_TEXT
    assert [data["error_type"] for data in session.payloads("provider:retry")] == ["ProviderUnavailableError"]


async def test_a_path_that_the_server_does_not_have_is_an_error_if_the_endpoint_is_configured(answer: Answer) -> None:
    async with (
        ReplayServer(always=NOT_FOUND) as server,
        provider_session(server, endpoint=answer.endpoint) as (_, provider),
    ):
        with pytest.raises(NotFoundError):
            await provider.complete(CITIES)

    assert len(server.request_bodies) == 1


async def test_an_empty_reply_is_repeated_once(answer: Answer) -> None:
    async with (
        ReplayServer(always=spoken(answer.speaker, Speech(()))) as server,
        provider_session(server, endpoint=answer.endpoint) as (_, provider),
    ):
        with pytest.raises(ProviderUnavailableError, match="the reply was empty"):
            await provider.complete(CITIES)

    assert len(server.request_bodies) == 2


@both_ways
async def test_raw_events_have_the_request_and_the_reply(answer: Answer, stream: bool) -> None:
    config: dict[str, Any] = {"endpoint": answer.endpoint, "use_streaming": stream, "raw": True}

    async with (
        ReplayServer(answer.healthy[stream]) as server,
        provider_session(server, **config) as (session, provider),
    ):
        await provider.complete(CITIES)

    (asked,), (told,) = session.payloads("llm:request"), session.payloads("llm:response")
    assert asked["raw"] == server.request_bodies[0]
    assert told["raw"]["model"] == "tiny-qwen3"
    assert "Paris 🗼." in json.dumps(told["raw"], ensure_ascii=False)


def _prompts(server: ReplayServer, answer: Answer) -> list[str]:
    """What the model was asked each time, as JSON. Prompts for completions are token ids: /tokenize has their text."""
    if answer.endpoint == "completions":
        bodies = [request.json for request in server.requests if request.path == "/tokenize"]
    else:
        bodies = server.request_bodies
    return [json.dumps(body) for body in bodies]


def _text(response: ChatResponse) -> str:
    return "".join(block.text for block in response.content if isinstance(block, TextBlock))
