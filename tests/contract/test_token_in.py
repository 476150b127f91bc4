"""Token-in: the next prompt is exactly the last one, its reply, and what is new; what is no extension begins anew."""

from typing import Any

import pytest
from amplifier_core.message_models import ImageBlock, Message, TextBlock

from tests.support.token_server import END, Sampled, TokenServer
from tests.support.token_session import result, said, token_session

CALL = Sampled("Let me look.", calls=[("get_weather", {"city": "Paris"})])
TWO_CALLS = Sampled(calls=[("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})])
ANSWER = Sampled("It is 17 degrees.")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_every_follow_up_begins_with_exactly_what_was_sampled(stream: bool) -> None:
    server = TokenServer([CALL, TWO_CALLS, ANSWER, ANSWER])

    async with token_session(server, token_in=True, use_streaming=stream) as session:
        first = await session.ask(said("Weather?"))
        second = await session.ask(*result(first, "17 degrees"))
        await session.ask(*result(second, "17 degrees"))
        await session.ask(said("And tomorrow?"))

    assert session.exact == [True, True, True]
    assert session.segments == ["first call", None, None, None]
    assert [event["token_in"] for event in session.events] == [False, True, True, True]
    assert server.sent_ids[1:] == server.prompts[1:]


async def test_the_new_messages_are_what_the_template_writes_behind_the_turn() -> None:
    server = TokenServer([TWO_CALLS, ANSWER])

    async with token_session(server, token_in=True) as session:
        first = await session.ask(said("Weather?"))
        await session.ask(*result(first, "17 degrees"))

    new = bytes(one for one in server.prompts[1][len(server.prompts[0]) + len(TWO_CALLS.ids) :] if one < 256)
    assert new == b"\ntool\n17 degrees\ntool\n17 degrees\nassistant\n"


async def test_one_request_to_tokenize_renders_what_is_new() -> None:
    server = TokenServer([CALL, CALL, CALL, ANSWER])

    async with token_session(server, token_in=True) as session:
        response = await session.ask(said("Weather?"))
        response = await session.ask(*result(response, "17 degrees"))
        before = server.tokenized
        response = await session.ask(*result(response, "17 degrees"))
        await session.ask(*result(response, "17 degrees"))

    assert server.tokenized - before == 2


async def test_a_cut_reply_gets_the_end_of_its_turn() -> None:
    cut = Sampled("It is 1", finish_reason="length", ends_turn=False)
    server = TokenServer([cut, ANSWER])

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"), max_output_tokens=7)
        await session.ask(said("Go on."))

    assert session.exact == [True]
    assert server.prompts[1][len(server.prompts[0]) + len(cut.ids)] == END


async def test_a_reply_that_a_stop_string_ended_gets_the_end_of_its_turn() -> None:
    stopped = Sampled("It is", ends_turn=False)
    server = TokenServer([stopped, ANSWER])

    async with token_session(server, token_in=True, stop=["!"]) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("Go on."))

    assert session.exact == [True]
    assert server.prompts[1][len(server.prompts[0]) + len(stopped.ids)] == END


async def test_a_reminder_that_was_sent_stays_in_the_ids_and_a_new_one_is_appended() -> None:
    server = TokenServer([CALL, CALL, ANSWER])

    async with token_session(server, token_in=True) as session:
        response = await session.ask(said("Weather?"), reminder="step one")
        response = await session.ask(*result(response, "17 degrees"), reminder="step two")
        await session.ask(*result(response, "17 degrees"), reminder="step three")

    last = bytes(one for one in server.prompts[-1] if one < 256).decode()
    assert session.exact == [True, True]
    assert session.segments == ["first call", None, None]
    assert [last.count(f"step {word}") for word in ("one", "two", "three")] == [1, 1, 1]


async def test_a_reminder_that_appears_late_in_an_old_message_is_appended() -> None:
    server = TokenServer([CALL, ANSWER])

    async with token_session(server, token_in=True) as session:
        response = await session.ask(said("Weather?"))
        session.messages.insert(1, Message(role="system", content="a late word"))
        await session.ask(*result(response, "17 degrees"))

    new = bytes(one for one in server.prompts[1][len(server.prompts[0]) :] if one < 256)
    assert session.exact == [True]
    assert b"a late word" in new


async def test_a_correction_goes_on_from_the_ids_of_the_bad_call() -> None:
    bad = Sampled(calls=[("get_wether", {})])
    server = TokenServer([bad, CALL, ANSWER])

    async with token_session(server, token_in=True) as session:
        response = await session.ask(said("Weather?"))
        await session.ask(*result(response, "17 degrees"))

    assert session.exact == [True, True]
    assert [event["call_index"] for event in session.events] == [0, 1, 0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [("an edit", "history changed"), ("a compaction", "first call"), ("a regenerated turn", "history changed")],
)
async def test_a_history_that_is_no_extension_begins_a_segment(changed: str, reason: str) -> None:
    server = TokenServer([CALL, ANSWER, ANSWER])

    async with token_session(server, token_in=True) as session:
        response = await session.ask(said("Weather?"))
        await session.ask(*result(response, "17 degrees"))
        match changed:
            case "an edit":
                session.messages[2] = session.messages[2].model_copy(update={"content": "18 degrees"})
            case "a compaction":
                session.messages[:] = [said("Summary: it is warm.")]
            case _:
                session.messages[1:] = [Message(role="assistant", content="I do not know.")]
        await session.ask(said("And tomorrow?"))

    assert session.segments[-1] == reason
    assert server.sent_ids[-1] is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": None}, "tools changed"),
        ({"reasoning_effort": "high"}, "reasoning effort changed"),
    ],
)
async def test_another_prompt_before_the_history_begins_a_segment(fields: dict[str, Any], reason: str) -> None:
    server = TokenServer([ANSWER, ANSWER])

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"), **fields)

    assert session.segments == ["first call", reason]


async def test_a_new_user_turn_may_be_rendered_by_the_template() -> None:
    server = TokenServer([CALL, ANSWER, ANSWER])

    async with token_session(server, token_in=True, across_turns="rerender") as session:
        response = await session.ask(said("Weather?"))
        await session.ask(*result(response, "17 degrees"))
        await session.ask(said("And tomorrow?"))

    assert session.segments == ["first call", None, "new user turn"]


async def test_a_server_that_ignores_the_ids_is_noticed_at_once_and_answers_the_messages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = TokenServer([CALL, CALL, ANSWER], takes_ids=False)

    async with token_session(server, token_in=True) as session:
        response = await session.ask(said("Weather?"))
        response = await session.ask(*result(response, "17 degrees"))
        reply = await session.ask(*result(response, "18 degrees"))

    assert reply.finish_reason == "stop"
    assert session.segments == ["first call", "ids not taken", "message mode"]
    assert [sent is not None for sent in server.sent_ids] == [False, True, False]
    assert bytes(one for one in server.prompts[1] if one < 256).endswith(b"17 degrees\nassistant\n")
    assert caplog.text.count("did not take the token ids") == 1


async def test_a_server_that_refuses_the_ids_gets_the_messages() -> None:
    server = TokenServer([ANSWER, ANSWER], refuses_ids=True)

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        reply = await session.ask(said("And tomorrow?"))

    assert [block.text for block in reply.content if isinstance(block, TextBlock)] == ["It is 17 degrees."]
    assert session.segments == ["first call", "ids refused"]


async def test_a_server_without_tokenize_gets_the_messages(caplog: pytest.LogCaptureFixture) -> None:
    server = TokenServer([ANSWER, ANSWER], tokenizes=False)

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        await session.ask(said("And tomorrow?"))

    assert session.segments == ["first call", "message mode"]
    assert "`tokenize_url`" in caplog.text


async def test_a_template_that_refuses_one_message_costs_one_segment() -> None:
    server = TokenServer([ANSWER] * 4, refuses_text="odd")

    async with token_session(server, token_in=True) as session:
        for question in ("Weather?", "An odd one.", "And tomorrow?", "And then?"):
            await session.ask(said(question))

    assert session.segments == ["first call", "message mode", None, None]


async def test_another_server_may_tokenize_and_gets_no_key() -> None:
    server, other = TokenServer([ANSWER, ANSWER], tokenizes=False), TokenServer([])
    async with other() as tokenizer:
        config = {"token_in": True, "tokenize_url": tokenizer.base_url, "api_key": "secret"}
        async with token_session(server, **config) as session:
            await session.ask(said("Weather?"))
            await session.ask(said("And tomorrow?"))

    assert session.exact == [True]
    assert [request.headers.get("authorization") for request in tokenizer.requests] == [None] * other.tokenized


async def test_images_are_sent_as_messages() -> None:
    server = TokenServer([ANSWER, ANSWER])
    source = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}

    async with token_session(server, token_in=True, default_model="another") as session:
        await session.ask(said("Weather?"))
        await session.ask(Message(role="user", content=[ImageBlock(source=source)]))

    assert session.segments == ["first call", "images"]
    assert server.sent_ids == [None, None]


async def test_two_conversations_of_one_provider_stay_apart() -> None:
    server = TokenServer([ANSWER] * 4)

    async with token_session(server, token_in=True) as session:
        await session.ask(said("Weather?"))
        mine, session.messages = session.messages, []
        await session.ask(said("Name this session."))
        session.messages = mine
        await session.ask(said("And tomorrow?"))

    first, _, third = session.events
    whole = [*first["prompt_token_ids"], *first["token_ids"]]
    assert third["prompt_token_ids"][: len(whole)] == whole
    assert session.segments == ["first call", "first call", None]
