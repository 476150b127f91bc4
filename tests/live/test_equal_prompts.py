"""A history is the same prompt on every endpoint of a real server, so that a session may change between them."""

from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import pytest
from amplifier_core.message_models import Message, TextBlock, ThinkingBlock, ToolCallBlock

from amplifier_module_provider_vllm._ask import Ask
from amplifier_module_provider_vllm._chat.encode import encode as encode_chat
from amplifier_module_provider_vllm._responses.encode import encode as encode_responses
from amplifier_module_provider_vllm._tokenize import count_bodies
from tests.rig.prompts import Wire
from tests.rig.server import LiveServer
from tests.support.exchange import GET_WEATHER
from tests.support.requests import ask_of

pytestmark = pytest.mark.live

QUESTION = Message(role="user", content="Say what you do, then check the weather in Paris.")
THOUGHT = ThinkingBlock(thinking="I should look up the weather in Paris.")
SAID = TextBlock(text="I will check the weather.\n")
PARIS = ToolCallBlock(id="call_1", name="get_weather", input={"city": "Paris"})
LONDON = ToolCallBlock(id="call_2", name="get_weather", input={"city": "London"})
REMINDER = Message(role="system", content="todo: answer")


def assistant(*blocks: Any) -> Message:
    return Message(role="assistant", content=list(blocks))


def result(call: ToolCallBlock, output: str = "sunny, 21 C") -> Message:
    return Message(role="tool", tool_call_id=call.id, content=output)


HISTORIES: dict[str, list[Message]] = {
    "a question": [QUESTION],
    "instructions and a reminder": [Message(role="system", content="Be brief."), QUESTION, REMINDER],
    "a call": [QUESTION, assistant(THOUGHT, PARIS), result(PARIS)],
    "parallel calls": [QUESTION, assistant(THOUGHT, PARIS, LONDON), result(PARIS), result(LONDON, ""), REMINDER],
    "a chain of calls": [
        QUESTION,
        assistant(THOUGHT, PARIS),
        result(PARIS),
        assistant(THOUGHT, LONDON),
        result(LONDON),
    ],
    "calls without reasoning": [QUESTION, assistant(PARIS), result(PARIS)],
    "a finished turn": [
        QUESTION,
        assistant(THOUGHT, PARIS),
        result(PARIS),
        assistant(THOUGHT, TextBlock(text="\n\nSunny.")),
        Message(role="user", content="And in London?"),
    ],
    "two turns of the assistant in a row": [
        QUESTION,
        assistant(TextBlock(text="Hm.")),
        assistant(THOUGHT, TextBlock(text="So.")),
    ],
    "control tokens": [QUESTION, assistant(PARIS), result(PARIS, "<|im_end|> <|end|> </tool_response>")],
}
PREAMBLE = [QUESTION, assistant(THOUGHT, SAID, PARIS), result(PARIS)]


def ask(server: LiveServer, *messages: Message) -> Ask:
    config = {"use_streaming": False, "temperature": 0}
    return ask_of(*messages, request={"tools": [GET_WEATHER]}, config=config, model=server.model)


async def chat(wire: Wire, ask: Ask) -> dict[str, Any]:
    body = encode_chat(replace(ask, wants_tokens=True))
    reply: dict[str, Any] = await wire.client.post("/chat/completions", body=body, cast_to=dict[str, Any])
    return reply


async def prompt_of_chat(wire: Wire, ask: Ask) -> list[int]:
    """The prompt that the server says it read."""
    reply = await chat(wire, replace(ask, options=replace(ask.options, max_output_tokens=1)))
    tokens: list[int] = reply["prompt_token_ids"]
    return tokens


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
async def test_a_history_is_the_same_prompt_on_both_endpoints(
    storing_server: LiveServer, history: list[Message]
) -> None:
    wire = Wire(storing_server.base_url)
    async with wire.client:
        asked = ask(storing_server, *history)

        prompt = await prompt_of_chat(wire, asked)

        assert await wire.text(storing_server.model, prompt) == await wire.text(
            storing_server.model, await wire.tokens(encode_responses(asked))
        )


@pytest.mark.parametrize("history", [*HISTORIES.values(), PREAMBLE], ids=[*HISTORIES.keys(), "text beside a call"])
async def test_the_prompt_has_as_many_tokens_as_are_counted_before(
    storing_qwen: LiveServer, history: list[Message]
) -> None:
    wire = Wire(storing_qwen.base_url)
    async with wire.client:
        asked = ask(storing_qwen, *history)
        (path, counting), _ = count_bodies(asked)

        url = urljoin(str(wire.client.base_url), path)
        counted = await wire.client.post(url, body=counting, cast_to=dict[str, Any])

        assert counted["tokens"] == await prompt_of_chat(wire, asked)


async def test_text_beside_a_call_stays_where_the_model_wrote_it(storing_qwen: LiveServer) -> None:
    """The next prompt begins with exactly the last prompt and the reply, on both endpoints."""
    wire = Wire(storing_qwen.base_url)
    async with wire.client:
        reply = await chat(wire, ask(storing_qwen, QUESTION))
        message = reply["choices"][0]["message"]
        produced = assistant(ThinkingBlock(thinking=message["reasoning"]), TextBlock(text=message["content"]), PARIS)

        following = ask(storing_qwen, QUESTION, produced, result(PARIS))
        on_chat, on_responses = await prompt_of_chat(wire, following), await wire.tokens(encode_responses(following))

    so_far = [*reply["prompt_token_ids"], *reply["choices"][0]["token_ids"]]
    assert message["content"].endswith("weather.\n")
    assert on_chat[: len(so_far)] == on_responses[: len(so_far)] == so_far


async def test_gpt_oss_reads_text_beside_a_call_as_the_commentary_that_it_was(
    gpt_oss: LiveServer,
) -> None:
    wire = Wire(gpt_oss.base_url)
    async with wire.client:
        prompt = await wire.text(gpt_oss.model, await prompt_of_chat(wire, ask(gpt_oss, *PREAMBLE)))

    assert (
        f"<|channel|>analysis<|message|>{THOUGHT.thinking}<|end|><|start|>assistant"
        f"<|channel|>commentary<|message|>{SAID.text}<|end|><|start|>assistant to=functions.get_weather"
    ) in prompt
