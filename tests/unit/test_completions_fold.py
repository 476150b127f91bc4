"""The replies of /v1/completions fold into blocks, and into a Turn with its tokens, usage and log probabilities."""

import json
from dataclasses import replace
from typing import Any

import pytest

from amplifier_module_provider_vllm._ask import TokenPrompt
from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._completions.events import ErrorEvent, decode_event, decode_reply
from amplifier_module_provider_vllm._completions.fold import CompletionsFold
from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._turn import (
    FunctionCall,
    Item,
    Reasoning,
    Status,
    Text,
    TokenLogprob,
    TokenUsage,
    TopLogprob,
)
from amplifier_module_provider_vllm._updates import BlockDelta, BlockEnd, BlockStart
from amplifier_module_provider_vllm._wire.sse import Frame
from tests.support.completions import ask_for, events_of, folded, harmony, turn_of
from tests.support.recordings import Recording, cases, load_recording

MODELS = ("tiny-qwen3", "tiny-gpt-oss")
ARGUMENTS = '{"city": "Paris"}'
THOUGHT = {
    "tiny-qwen3": Reasoning("\nI should look up the weather in Paris.\n"),
    "tiny-gpt-oss": Reasoning("I should look up the weather in Paris."),
}
PARIS = {"tiny-qwen3": " Paris09 is Paris.", "tiny-gpt-oss": " Paris."}
both_models = pytest.mark.parametrize("model", MODELS)
streamed_and_whole = pytest.mark.parametrize("ending", ["_stream", ""], ids=["streamed", "whole"])


def recording_of(model: str, case: str) -> Recording:
    return load_recording(f"chat/{model}", case)


def chunk(**choice: Any) -> Any:
    body = {"id": "cmpl-1", "model": "m", "choices": [{"index": 0, "text": "", **choice}]}
    return decode_event(Frame(b"", json.dumps(body).encode()))


def event(body: dict[str, Any]) -> Any:
    return decode_event(Frame(b"", json.dumps(body).encode()))


NEWLINE, NEWLINES = "\n", "\n\n"
DONE = decode_event(Frame(b"", b"[DONE]"))
RAW = ask_for(recording_of("tiny-qwen3", "comp_text"))
RENDERED = ask_for(recording_of("tiny-qwen3", "via_completions_tool"))


@both_models
@streamed_and_whole
def test_a_tool_turn_has_its_reasoning_and_its_call(model: str, ending: str) -> None:
    recording = recording_of(model, f"via_completions_tool{ending}")

    turn = turn_of(recording)

    call = FunctionCall(f"call_{turn.response_id}_0", "get_weather", ARGUMENTS, unrecognised=True)
    assert (turn.items, turn.status) == ((THOUGHT[model], call), Status.COMPLETED)


@both_models
def test_a_call_is_announced_by_its_name_and_ended_with_its_arguments(model: str) -> None:
    recording = recording_of(model, "via_completions_tool_stream")

    updates = folded(events_of(recording), ask_for(recording)).updates

    thought = "".join(update.text for update in updates if isinstance(update, BlockDelta))
    assert [update for update in updates if not isinstance(update, BlockDelta)] == [
        BlockStart(0, "thinking"),
        BlockEnd(0, "thinking"),
        BlockStart(1, "tool_use", "get_weather"),
        BlockEnd(1, "tool_use"),
    ]
    assert thought == THOUGHT[model].text


@both_models
@streamed_and_whole
def test_the_reply_to_a_raw_prompt_is_one_text_as_it_is(model: str, ending: str) -> None:
    recording = recording_of(model, f"comp_text{ending}")

    turn = turn_of(recording)

    assert turn.items == (Text(PARIS[model]),)


@streamed_and_whole
def test_markup_in_the_reply_to_a_raw_prompt_is_text(ending: str) -> None:
    case = "comp_special_tokens_kept_spaces_stream" if ending else "comp_special_tokens_kept"

    turn = turn_of(recording_of("tiny-qwen3", case))

    thought = "<think>\nThe user asks for the capital of France. It is Paris.\n</think>"
    assert turn.items == (Text(f"{thought}\n\nThe capital of France is Paris."),)


@both_models
@pytest.mark.parametrize("case", ["comp_ids_two", "comp_two_prompts"])
@streamed_and_whole
def test_only_the_first_choice_is_read(model: str, case: str, ending: str) -> None:
    first = recording_of(model, case).json["choices"][0]["text"]
    ask = ask_for(recording_of(model, "comp_text"))

    turn = turn_of(recording_of(model, f"{case}{ending}"), ask)

    assert turn.items == (Text(first),)


PAIRS = [
    (model, case.removesuffix("_stream"))
    for model in MODELS
    for pattern in ("comp_*_stream", "via_*_stream")
    for case in cases(f"chat/{model}", pattern)
    if case.removesuffix("_stream") in cases(f"chat/{model}", pattern.removesuffix("_stream"))
    if load_recording(f"chat/{model}", case).status == 200
    and b'"error"' not in load_recording(f"chat/{model}", case).body
    if case != "comp_n2_stream"  # sampled
]


@pytest.mark.parametrize(("model", "case"), PAIRS)
def test_streamed_and_whole_replies_are_equal(model: str, case: str) -> None:
    recordings = recording_of(model, case), recording_of(model, f"{case}_stream")
    ask = ask_for(recordings[0], logprobs=2)

    whole, streamed = (turn_of(recording, ask) for recording in recordings)

    assert without_ids(streamed.items) == without_ids(whole.items)
    assert (streamed.status, streamed.incomplete_reason) == (whole.status, whole.incomplete_reason)
    assert (streamed.logprobs, streamed.model) == (whole.logprobs, whole.model)


@both_models
@streamed_and_whole
def test_a_turn_has_the_token_ids_of_its_prompt_and_of_all_that_was_sampled(model: str, ending: str) -> None:
    recording = recording_of(model, f"via_completions_tool{ending}")
    whole = recording_of(model, "via_completions_tool").json["choices"][0]

    tokens = turn_of(recording).tokens

    assert tokens is not None
    assert tokens.prompt == tuple(whole["prompt_token_ids"]) == tuple(recording.request["prompt"])
    assert tokens.sampled == tuple(whole["token_ids"])
    assert tokens.text == whole["text"]


@streamed_and_whole
def test_a_reply_whose_ids_were_not_asked_for_has_none(ending: str) -> None:
    assert turn_of(recording_of("tiny-qwen3", f"comp_text{ending}")).tokens is None


@both_models
def test_the_reasoning_tokens_are_counted_where_the_server_does_not(model: str) -> None:
    turn = turn_of(recording_of(model, "via_completions_tool"))

    assert turn.usage is not None
    assert turn.usage.reasoning_tokens == {"tiny-qwen3": 10, "tiny-gpt-oss": 9}[model]


def test_usage_comes_after_the_finish_reason() -> None:
    usage = turn_of(recording_of("tiny-qwen3", "comp_cached_again_stream")).usage

    assert usage == TokenUsage(400, 2, reasoning_tokens=None, cached_tokens=384)


def test_a_length_is_an_incomplete_reply() -> None:
    turn = turn_of(recording_of("tiny-qwen3", "comp_cached"))

    assert (turn.status, turn.incomplete_reason, turn.truncated) == (Status.INCOMPLETE, "max_output_tokens", True)


@pytest.mark.parametrize("case", ["comp_stop", "comp_stop_stream"])
def test_a_stop_string_ends_a_complete_reply(case: str) -> None:
    turn = turn_of(recording_of("tiny-gpt-oss", case))

    assert (turn.items, turn.status) == ((Text("  not, "),), Status.COMPLETED)


def test_a_stream_may_end_without_done() -> None:
    result = folded([chunk(text="Hi"), chunk(finish_reason="stop")], RAW)

    assert result.turn is not None
    assert result.turn.items == (Text("Hi"),)


def test_a_stream_without_a_finish_reason_is_no_reply() -> None:
    result = folded([chunk(text="Hi"), DONE], RAW)

    assert (result.turn, result.failure) == (None, None)


def test_an_aborted_request_is_a_failure() -> None:
    result = folded([chunk(text="Hi"), chunk(finish_reason="abort"), DONE], RAW)

    assert (result.turn, result.failure) == (None, Failure("the server aborted the reply", kind="abort"))


@pytest.mark.parametrize(
    ("group", "case", "status"),
    [
        ("tiny-qwen3", "comp_logprobs_21_stream", 400),
        ("tiny-gpt-oss", "comp_ids_bad_stream", 400),
        ("tiny-gpt-oss-faults", "engine_killed_completions", 500),
    ],
)
def test_an_error_inside_a_stream_is_a_failure_with_its_own_status(group: str, case: str, status: int) -> None:
    recording = load_recording(f"chat/{group}", case)

    result = folded(events_of(recording), replace(RAW, tokens=None))

    assert result.turn is None
    assert result.failure is not None
    assert result.failure.status == status


def test_events_after_an_error_are_ignored() -> None:
    error = event({"error": {"message": "no", "code": 500}})

    result = folded([chunk(text="Hi"), error, chunk(text=" again", finish_reason="stop"), DONE], RAW)

    assert (result.turn, result.failure) == (None, Failure("no", 500))


def test_a_finish_chunk_may_carry_text() -> None:
    result = folded([chunk(text="One"), chunk(text=" two", finish_reason="stop"), DONE], RAW)

    assert result.turn is not None
    assert result.turn.items == (Text("One two"),)


def test_a_gpt_oss_reply_without_token_ids_names_the_way_out() -> None:
    ask = ask_for(recording_of("tiny-gpt-oss", "via_completions_tool"))

    result = folded([chunk(text="<|channel|>final<|message|>Hi"), chunk(finish_reason="stop")], ask)

    assert result.failure is not None
    assert (result.failure.status, "set `endpoint: chat`" in result.failure.message) == (501, True)


def test_a_call_that_is_open_at_the_end_is_not_complete() -> None:
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Pa'

    result = folded([chunk(text=text), chunk(finish_reason="stop")], RENDERED)

    assert result.turn is not None
    (call,) = result.turn.calls
    assert (call.name, call.arguments, call.complete) == ("get_weather", '{"city": "Pa', False)


def test_two_calls_have_ids_of_their_own() -> None:
    one = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'

    result = folded([chunk(text=f"{one}\n{one}"), chunk(finish_reason="stop")], RENDERED)

    assert result.turn is not None
    assert [call.call_id for call in result.turn.calls] == ["call_cmpl-1_0", "call_cmpl-1_1"]


LOGPROBS = {
    "tokens": [" Pa", "\ufffd", "token_id:7"],
    "token_logprobs": [-0.5, -1, -2],
    "top_logprobs": [{"x": -3, " Pa": -0.5, "y": -1}, {"\ufffd": -1}, None],
}


def test_log_probabilities_have_the_shape_of_every_endpoint() -> None:
    ask = replace(RAW, options=replace(RAW.options, logprobs=2))

    result = folded([chunk(text=" Pa", logprobs=LOGPROBS), chunk(finish_reason="stop")], ask)

    assert result.turn is not None
    pa = TopLogprob(" Pa", -0.5, [32, 80, 97])
    assert result.turn.logprobs == (
        TokenLogprob(" Pa", -0.5, [32, 80, 97], (pa, TopLogprob("y", -1, [121]))),
        TokenLogprob("\ufffd", -1, None, (TopLogprob("\ufffd", -1, None),)),
        TokenLogprob("token_id:7", -2),
    )


@both_models
@streamed_and_whole
def test_every_sampled_token_has_a_log_probability(model: str, ending: str) -> None:
    recording = recording_of(model, f"comp_logprobs_2{ending}")

    turn = turn_of(recording, ask_for(recording, logprobs=2))

    whole = recording_of(model, "comp_logprobs_2").json["choices"][0]["logprobs"]
    assert turn.logprobs is not None
    assert [entry.token for entry in turn.logprobs] == whole["tokens"]
    assert [entry.logprob for entry in turn.logprobs] == whole["token_logprobs"]
    assert {len(entry.top_logprobs) for entry in turn.logprobs} == {2}


def test_no_log_probabilities_unless_they_were_asked_for() -> None:
    assert turn_of(recording_of("tiny-qwen3", "comp_logprobs_2")).logprobs is None


def test_an_echoed_prompt_is_text_without_log_probabilities_of_its_own() -> None:
    recording = recording_of("tiny-qwen3", "comp_echo_logprobs")

    turn = turn_of(recording, ask_for(recording, logprobs=2, echo=True))

    assert turn.items == (Text("The capital of France is Paris09 is Paris."),)
    assert turn.logprobs is not None
    assert [entry.token for entry in turn.logprobs] == [" Paris", "0", "9", " is", " Paris", ".", "<|im_end|>"]


@pytest.mark.parametrize("case", cases("chat/tiny-gpt-oss", "cont_*_completions"))
def test_a_harmony_reply_goes_on_after_its_ids_wherever_it_was_cut(case: str) -> None:
    rest, full, cut = continued("tiny-gpt-oss", case)
    before = tuple(full["choices"][0]["token_ids"][:cut])
    tokens = TokenPrompt(tuple(full["prompt_token_ids"]), in_reasoning=False, reply=before)
    sampled = (*before, *rest.json["choices"][0]["token_ids"])

    turn = turn_of(rest, ask_for(rest, tokens))

    assert without_ids(turn.items) == uncut_items(rest, token_ids=sampled)


@pytest.mark.parametrize("case", cases("chat/tiny-qwen3", "cont_*_completions"))
def test_a_templates_reply_goes_on_after_its_text_wherever_it_was_cut(case: str) -> None:
    rest, full, cut = continued("tiny-qwen3", case)
    text, rest_text = written(full["choices"][0]["message"]), rest.json["choices"][0]["text"]
    before = text[: text.index(rest_text[:30])]
    sampled = tuple(full["choices"][0]["token_ids"][:cut])
    tokens = TokenPrompt(tuple(full["prompt_token_ids"]), in_reasoning=False, reply=sampled, reply_text=before)

    turn = turn_of(rest, ask_for(rest, tokens))

    assert without_ids(turn.items) == uncut_items(rest, text=before + rest_text)


@both_models
def test_the_reply_so_far_is_in_the_blocks_before_the_first_event(model: str) -> None:
    rest, full, cut = continued(model, "cont_text_12_completions")
    sampled = tuple(full["choices"][0]["token_ids"][:cut])
    tokens = TokenPrompt(tuple(full["prompt_token_ids"]), False, sampled, "<think>\nThe user asks for")
    blocks = Blocks(may_continue=True, by_tokens=True)

    CompletionsFold(blocks, ask_for(rest, tokens), harmony())

    (thought,) = blocks.items
    assert isinstance(thought, Reasoning)
    assert thought.text.strip().startswith("The user asks for")


def test_the_calls_of_the_reply_so_far_keep_their_ids() -> None:
    rest, full, cut = continued("tiny-qwen3", "cont_two_48_completions")
    text = written(full["choices"][0]["message"])
    before = text[: text.index(rest.json["choices"][0]["text"])]
    tokens = TokenPrompt(tuple(full["prompt_token_ids"]), False, tuple(full["choices"][0]["token_ids"][:cut]), before)
    earlier = [FunctionCall("call_a", "get_weather", ARGUMENTS), FunctionCall("call_b", "get_weather", "")]

    turn = turn_of(rest, ask_for(rest, tokens, earlier))

    assert [(call.call_id, call.arguments) for call in turn.calls] == [
        ("call_a", ARGUMENTS),
        ("call_b", '{"city": "London"}'),
    ]


def test_the_reasoning_of_the_reply_so_far_is_counted_once() -> None:
    rest, full, cut = continued("tiny-gpt-oss", "cont_tool_5_completions")
    sampled = tuple(full["choices"][0]["token_ids"])
    tokens = TokenPrompt(tuple(full["prompt_token_ids"]), in_reasoning=False, reply=sampled[:cut])
    usage = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": cut}})

    first = folded([chunk(token_ids=sampled[:cut]), usage, chunk(finish_reason="length")], ask_for(rest)).turn
    second = turn_of(rest, ask_for(rest, tokens))
    whole = turn_of(recording_of("tiny-gpt-oss", "via_completions_tool"))

    assert first is not None
    counts = [turn.usage and turn.usage.reasoning_tokens for turn in (first, second, whole)]
    assert (counts[0] or 0) + (counts[1] or 0) == counts[2]
    assert all(counts)


def test_a_tail_that_may_become_markup_is_left_to_the_round_that_continues_the_reply() -> None:
    cut = [chunk(text="It is sunny.\n<tool_"), chunk(finish_reason="length")]

    continues = folded(cut, replace(RENDERED, wants_tokens=True)).turn
    ends = folded(cut, RENDERED).turn

    assert continues is not None
    assert ends is not None
    assert continues.items == (Text("It is sunny.\n"),)
    assert ends.items == (Text("It is sunny.\n<tool_"),)


def test_a_character_that_a_gateway_cut_in_two_is_whole() -> None:
    first, second = (
        decode_event(Frame(b"", b'{"choices": [{"text": "%s"}]}' % half)) for half in (b"Hi \\ud83d", b"\\ude00!")
    )

    result = folded([first, second, chunk(finish_reason="stop")], RAW)

    assert result.turn is not None
    assert result.turn.items == (Text("Hi \U0001f600!"),)


def continued(model: str, case: str) -> tuple[Recording, Any, int]:
    """The rest of a reply, the whole one of a chat, and after how many tokens it was cut."""
    name, cut, _ = case.rsplit("_", 2)
    return recording_of(model, case), recording_of(model, f"{name}_full").json, int(cut)


def written(message: dict[str, Any]) -> str:
    """What the model wrote of a chat's message."""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    calls = [
        f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {function["arguments"]}}}\n</tool_call>'
        for function in functions
    ]
    return f"<think>{message['reasoning']}</think>{message['content'] or NEWLINES}{NEWLINE.join(calls)}"


def uncut_items(rest: Recording, **choice: Any) -> list[Item]:
    """The items of the whole reply, read at once."""
    ending = chunk(finish_reason=rest.json["choices"][0]["finish_reason"])
    turn = folded([chunk(**choice), ending], ask_for(rest)).turn
    assert turn is not None
    return without_ids(turn.items)


def without_ids(items: tuple[Item, ...]) -> list[Item]:
    return [FunctionCall("", one.name, one.arguments) if isinstance(one, FunctionCall) else one for one in items]


@pytest.mark.parametrize("body", [b'{"error": {"message": "no \\ud83d", "code": 400}}'])
def test_an_error_with_half_a_character_is_still_an_error(body: bytes) -> None:
    assert decode_reply(body) == ErrorEvent(Failure("no \ufffd", 400))
    assert decode_event(Frame(b"", body)) == ErrorEvent(Failure("no \ufffd", 400))
