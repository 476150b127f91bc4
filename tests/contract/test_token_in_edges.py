"""Token-in at its edges: what may not leave this server, other stops, gateways, many conversations."""

from typing import Any, Literal

import pytest
from amplifier_core.message_models import Message, TextBlock

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.token_server import END, Sampled, TokenServer
from tests.support.token_session import TokenSession, result, said, token_session

ANSWER = Sampled("It is 17 degrees.")


async def test_two_rollouts_that_look_the_same_go_on_from_their_own_thoughts() -> None:
    server = TokenServer([Sampled("Yes.", reasoning=thought) for thought in ("one", "another")] + [ANSWER, ANSWER])

    async with token_session(server, token_in=True) as session:
        rollouts: list[list[Message]] = []
        for _ in range(2):
            session.messages = []
            await session.ask(said("Is it warm?"))
            rollouts.append(session.messages)
        for messages in rollouts:
            session.messages = messages
            await session.ask(said("Are you sure?"))

    first, second, *follow_ups = server.prompts
    samples = [[*Sampled("Yes.", reasoning=thought).ids] for thought in ("one", "another")]
    begins = [prompt[: len(first) + len(sample)] for prompt, sample in zip(follow_ups, samples, strict=True)]
    assert begins == [[*first, *samples[0]], [*second, *samples[1]]]


async def test_another_server_that_tokenizes_gets_no_header_of_this_one() -> None:
    server, other = TokenServer([ANSWER, ANSWER], tokenizes=False), TokenServer([])
    async with other() as tokenizer:
        headers = {"X-Gateway-Key": "secret"}
        config = {"token_in": True, "tokenize_url": tokenizer.base_url, "extra_headers": headers}
        async with token_session(server, **config) as session:
            await session.ask(said("Weather?"))
            await session.ask(said("And tomorrow?"))

    assert session.exact == [True]
    assert [request.headers.get("x-gateway-key") for request in tokenizer.requests] == [None] * other.tokenized


@pytest.mark.parametrize(
    "config",
    [
        {"stop": ["!"], "extra_request_params": {"include_stop_str_in_output": True}},
        {"stop": ["!"], "extra_request_params": {"min_tokens": 2}},
        {"extra_request_params": {"stop_token_ids": [ord("!")]}},
    ],
    ids=["shown", "min_tokens", "a token"],
)
async def test_a_reply_that_ends_with_what_stopped_it_gets_the_end_of_its_turn(config: dict[str, Any]) -> None:
    stopped = Sampled("It is!", ends_turn=False)
    server = TokenServer([stopped, ANSWER])

    async with token_session(server, token_in=True, **config) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("Go on."))

    assert session.exact == [True]
    assert server.prompts[1][len(server.prompts[0]) + len(stopped.ids)] == END


async def test_a_gateway_without_text_completions_still_gives_the_tokens_of_every_call() -> None:
    cut = Sampled("It is 1", finish_reason="length", ends_turn=False)
    server = TokenServer([cut, Sampled("7 degrees."), ANSWER, ANSWER])

    async with token_session(server, return_token_ids=True, max_tokens=7) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))
        await session.ask(said("And then?"))

    assert [event["prompt_token_ids"] for event in session.events] == server.prompts


async def test_a_reply_that_goes_on_by_its_text_is_prompted_without_ids() -> None:
    cut = Sampled("It is 1", finish_reason="length", ends_turn=False)
    server = TokenServer([ANSWER, cut, Sampled("7 degrees."), ANSWER])

    async with token_session(server, token_in=True, max_tokens=7) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))
        await session.ask(said("And then?"))

    assert session.exact[-1]
    assert [event["token_in"] for event in session.events] == [ids is not None for ids in server.sent_ids]


async def test_a_conversation_is_remembered_through_a_long_one_beside_it() -> None:
    server = TokenServer([ANSWER] * 30)

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        mine, session.messages = session.messages, []
        for number in range(20):
            await session.ask(said(f"Step {number}"))
        session.messages = mine
        await session.ask(said("And tomorrow?"))

    assert session.segments[-1] is None


async def test_the_same_conversation_with_two_models_is_one_for_each() -> None:
    server = TokenServer([ANSWER] * 3)

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"), model="one")
        mine, session.messages = session.messages, []
        await session.ask(said("Weather?"), model="two")
        session.messages = mine
        await session.ask(said("And tomorrow?"), model="one")

    assert session.segments[-1] is None


async def test_the_new_messages_are_rendered_by_the_template_of_the_request() -> None:
    server = TokenServer([ANSWER, ANSWER])
    async with server() as replay:
        config = {"token_in": True, "extra_request_params": {"chat_template": "mine"}}
        async with provider_at(replay.base_url, EventRecorder(), **config) as provider:
            session = TokenSession(provider, EventRecorder())
            await session.ask(said("Weather?"))
            await session.ask(said("And tomorrow?"))
    bodies = [request.json for request in replay.requests if request.path == "/tokenize"]

    assert [body.get("chat_template") for body in bodies] == ["mine"] * server.tokenized
    assert server.tokenized > 0


@pytest.mark.parametrize("odd", [-1, 2**40, 2**70])
async def test_ids_of_no_vocabulary_cost_the_follow_up_and_not_the_reply(odd: int) -> None:
    server = TokenServer([ANSWER, ANSWER], odd_ids=[odd] * len(ANSWER.ids))

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        reply = await session.ask(said("And tomorrow?"))

    assert [block.text for block in reply.content if isinstance(block, TextBlock)] == ["It is 17 degrees."]
    assert server.sent_ids == [None, None]


async def test_a_gateway_that_drops_some_ids_leaves_no_gap_in_a_prompt(caplog: pytest.LogCaptureFixture) -> None:
    server = TokenServer([ANSWER, ANSWER], odd_ids=ANSWER.ids[:-1])

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))

    assert server.sent_ids == [None, None]
    assert session.events == []
    assert "not all of them" in caplog.text


async def test_ids_that_overflow_the_window_are_sent_as_messages() -> None:
    first = Sampled("a long thought, and the answer")
    server = TokenServer([first, ANSWER, ANSWER], most_sent_ids=10)

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))

    assert session.segments == ["first call", "context window"]
    assert server.sent_ids == [None, None]


async def test_half_characters_in_what_is_asked_and_told_do_not_cost_the_reply() -> None:
    server = TokenServer([ANSWER], also_tells={"metadata": {"weight_version": "\ud800"}, "id": "\ud800"})

    async with token_session(server, token_in=True, extra_request_params={"seed": "\ud800"}) as session:
        await session.ask(said("Weather?"), stop=["\ud800"])

    assert len(session.events) == 1
    assert session.events[0]["sampling"]["stop"] == ["\ufffd"]


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("place", [2, 3, 4])
async def test_a_late_message_among_parallel_results_is_sent_once(
    role: Literal["system", "developer"], place: int
) -> None:
    calls = Sampled(calls=[("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})])
    server = TokenServer([calls, calls, ANSWER])

    async with token_session(server, token_in=True) as session:
        first = await session.ask(said("Weather?"))
        session.messages += result(first, "")
        session.messages.insert(place, Message(role=role, content="late"))
        second = await session.ask()
        await session.ask(*result(second, "17"))

    assert session.exact == [True, True]
    assert bytes(one for one in server.prompts[-1] if one < 256).count(b">\nlate\n<") == 1


async def test_a_tokenizer_that_is_down_costs_one_segment_and_not_the_reply() -> None:
    server = TokenServer([ANSWER, ANSWER])
    config = {"token_in": True, "tokenize_url": "http://127.0.0.1:9", "max_retries": 0}

    async with token_session(server, **config) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))

    assert session.segments == ["first call", "message mode"]
