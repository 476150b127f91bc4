"""No text of gpt-oss contains Harmony's control tokens or a stop string, streamed or whole."""

import json
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, Message, ToolSpec

from amplifier_module_provider_vllm import CallKeywords
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recordings import Recording, load_recording
from tests.support.replay import ReplayServer, Reply
from tests.support.speech import REASONING_TEXT
from tests.support.wire import (
    OPENING,
    REASONING,
    event,
    item_added,
    item_done,
    message_item,
    reasoning_item,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

MODEL = "openai/gpt-oss-20b"
WEATHER = ToolSpec(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
HEADER = "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
REASONING_BLOCKS = [("thinking", REASONING_TEXT)]

TEXTS = {
    '{"city": "Paris"}<|end|>': '{"city": "Paris"}',
    "Paris.<|return|>": "Paris.",
    "Paris<|endoftext|>": "Paris",
    "Paris<|reserved_200903|>.": "Paris.",
    "<|channel|>final<|message|>Paris.": "Paris.",
    "<|start|>assistant<|channel|>final <|constrain|>json<|message|>{}": "{}",
    "One.<|end|><|start|>assistant<|channel|>final<|message|>Two.": "One.Two.",
    f"Paris.{HEADER[:22]}": "Paris.",
    f"Paris.{HEADER[:33]}": "Paris.",
    f"Paris.{HEADER[:50]}": "Paris.",
    "Paris.<|start|>assistant<|channel|>final <|constrain|": "Paris.",
    "Paris.<|cons": "Paris.",
    f"{HEADER}Paris": "Paris",
    "a < b <| c <|d|> e <|im_end|> |> <": "a < b <| c <|d|> e <|im_end|> |> <",
    "let x = f <| g": "let x = f <| g",
    "<": "<",
    "<|": "<|",
    "if a<b and b<|c|": "if a<b and b<|c|",
    "The token <|start|> begins a message, <|end|> ends it.": "The token  begins a message,  ends it.",
    "<start> <|starting|> <||> <| start |>": "<start> <|starting|> <||> <| start |>",
}
"""What the server sends, and what is shown of it."""

HIDDEN = ["<|channel|>", "<|channel|>analysis", HEADER, HEADER[:42], HEADER[:60], "<|start|>assist", "\n<|return|>"]
PIECES = pytest.mark.parametrize("size", [1, 3, 7, 1000])


@PIECES
@pytest.mark.parametrize(("text", "shown"), TEXTS.items(), ids=TEXTS)
async def test_a_text_is_shown_without_control_tokens(text: str, shown: str, size: int) -> None:
    whole, _ = await _blocks(whole_of(text))
    streamed, deltas = await _blocks(streamed_as(text, size))

    assert whole == streamed == [*REASONING_BLOCKS, ("text", shown)]
    assert deltas == shown


@PIECES
@pytest.mark.parametrize("text", HIDDEN)
async def test_a_text_of_control_tokens_is_no_block(text: str, size: int) -> None:
    whole, _ = await _blocks(whole_of(text))
    streamed, deltas = await _blocks(streamed_as(text, size))

    assert whole == streamed == REASONING_BLOCKS
    assert deltas == ""


@pytest.mark.parametrize("text", TEXTS)
async def test_the_text_of_another_family_is_shown_unchanged(text: str) -> None:
    blocks, deltas = await _blocks(streamed_as(text, 3), model="Qwen/Qwen3-8B", stop=["Paris"])

    assert blocks == [*REASONING_BLOCKS, ("text", text)]
    assert deltas == text


@pytest.mark.parametrize("case", ["r5_cut_in_call_20", "r5_cut_in_call_25", "fmt_json_schema_cut"])
@pytest.mark.parametrize("kind", ["", "_stream"])
async def test_a_recorded_reply_truncated_in_a_header_ends_before_it(case: str, kind: str) -> None:
    recording = load_recording("tiny-gpt-oss", case if case.startswith("fmt") else f"{case}{kind}")

    blocks, _ = await _blocks(recording)

    assert [kind for kind, _ in blocks] == ["thinking"]


@PIECES
async def test_a_call_in_raw_harmony_is_still_recovered(size: int) -> None:
    text = f'I look.<|end|>{HEADER}{{"city": "Paris"}}<|call|>'

    whole, _ = await _blocks(whole_of(text))
    streamed, _ = await _blocks(streamed_as(text, size))

    assert whole == streamed == [*REASONING_BLOCKS, ("text", "I look."), ("tool_call", {"city": "Paris"})]


async def test_a_call_in_raw_harmony_that_is_not_valid_shows_no_control_token() -> None:
    text = f"{HEADER}{{city}}<|call|>"

    blocks, deltas = await _blocks(streamed_as(text, 5))

    assert (blocks, deltas) == ([*REASONING_BLOCKS, ("text", "{city}")], "{city}")


STOPS = [
    pytest.param("It is sunny in Paris", ["Par"], "It is sunny in ", id="to the end of its token"),
    pytest.param("It is sunny in Paris", ["Paris"], "It is sunny in ", id="the whole token"),
    pytest.param("1, 2, 3, 4", ["x", "3", ", 3"], "1, 2", id="two at the same place: the longer one"),
    pytest.param("One\n\nTwo", ["\n\n"], "One", id="line ends"),
    pytest.param("aaab", ["aab"], "a", id="after its own start"),
    pytest.param("It is sunny", ["sunnyx"], "It is sunny", id="only the start of one"),
    pytest.param("It is sunny.<|return|>", ["y.\n"], "It is sunny.", id="its start before a control token"),
    pytest.param("It is sunny.<|end|>END and", ["END"], "It is sunny.", id="after a control token"),
    pytest.param("It is", [""], "It is", id="an empty one"),
]


@PIECES
@pytest.mark.parametrize(("text", "stop", "shown"), STOPS)
async def test_a_text_ends_before_its_stop_string(text: str, stop: list[str], shown: str, size: int) -> None:
    whole, _ = await _blocks(whole_of(text), stop=stop)
    streamed, deltas = await _blocks(streamed_as(text, size), stop=stop)

    assert whole == streamed == [*REASONING_BLOCKS, ("text", shown)]
    assert deltas == shown


async def test_a_stop_string_ends_the_reasoning_too() -> None:
    blocks, _ = await _blocks(whole_reply(), stop=["cities"])

    assert blocks[0] == ("thinking", REASONING_TEXT.partition("cities")[0])


@pytest.mark.parametrize("setting", [{"include_stop_str_in_output": True}, {"min_tokens": 5}], ids=str)
async def test_a_stop_string_stays_where_the_server_is_told_to_go_on(setting: dict[str, Any]) -> None:
    blocks, _ = await _blocks(whole_of("It is sunny in Paris"), stop=["is"], extra_request_params=setting)

    assert blocks[-1] == ("text", "It is sunny in Paris")


@pytest.mark.parametrize("stop", ["Par", ["Par"]], ids=["one", "a list"])
async def test_a_stop_string_of_the_config_is_cut_off_too(stop: str | list[str]) -> None:
    blocks, _ = await _blocks(whole_of("It is sunny in Paris"), extra_request_params={"stop": stop})

    assert blocks[-1] == ("text", "It is sunny in ")


async def test_a_text_is_not_held_back_longer_than_it_may_be_a_token() -> None:
    text = "a < b, then <|start|>assistant, then c"
    recorder = EventRecorder()

    await _blocks(streamed_as(text, 1), recorder)

    deltas = [data["text"] for data in recorder.payloads("llm:stream_block_delta") if data["block_type"] == "text"]
    assert "".join(deltas) == "a < b, then , then c"
    assert len(deltas) > 1


def whole_of(text: str) -> Reply:
    return whole_reply(json.dumps(response(reasoning_item(), message_item(text))).encode())


def streamed_as(text: str, size: int) -> Reply:
    """A stream with deltas of this size, each in a read of its own."""
    deltas = [text_delta(text[at : at + size]) for at in range(0, len(text), size)]
    message = [item_added(message_item(""), 1), *deltas, item_done(message_item(text), 1)]
    completed = event("response.completed", response=response(reasoning_item(), message_item(text)))
    return sse_reply(*OPENING, *REASONING, *message, completed, piece=120)


async def _blocks(
    answer: Reply | Recording,
    recorder: EventRecorder | None = None,
    *,
    model: str = MODEL,
    stop: list[str] | None = None,
    **config: Any,
) -> tuple[list[tuple[str, Any]], str]:
    """The blocks of the reply, and what was streamed of its text."""
    recorder = recorder or EventRecorder()
    request = ChatRequest(messages=[Message(role="user", content="Hi")], tools=[WEATHER], stop=stop)
    overrides: CallKeywords = {"max_output_tokens": 100}
    async with (
        ReplayServer(answer) as server,
        provider_at(server.base_url, recorder, default_model=model, **config) as provider,
    ):
        reply: Any = await provider.complete(request, **overrides)
    blocks = [
        (block.type.value, block.arguments if block.type.value == "tool_call" else block.text)
        for block in reply.content_blocks
    ]
    shown = [data["text"] for data in recorder.payloads("llm:stream_block_delta") if data["block_type"] == "text"]
    return blocks, "".join(shown)
