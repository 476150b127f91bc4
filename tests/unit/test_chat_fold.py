"""Any chat completion folds into the same blocks, streamed or not, in whichever dialect."""

from typing import Any

import msgspec
import pytest
from amplifier_core.llm_errors import LLMError, ProviderUnavailableError

from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._chat.fold import ChatFold
from amplifier_module_provider_vllm._errors import failed_stream
from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._response_handling import BadCall, to_response
from amplifier_module_provider_vllm._sizes import RefusedBodyError
from amplifier_module_provider_vllm._strict_json import read_json
from amplifier_module_provider_vllm._turn import (
    FunctionCall,
    Item,
    Reasoning,
    ReplyTokens,
    Status,
    Text,
    TokenLogprob,
    TokenUsage,
    Turn,
)
from amplifier_module_provider_vllm._updates import BlockDelta, BlockEnd, BlockStart
from tests.support.chat_rounds import (
    ASK,
    TOOLS,
    ask_for,
    calls,
    chunk,
    events_of_reads,
    fold_body,
    fold_reads,
    fold_recording,
    fold_stream,
    piece,
    stream,
    turn_of_body,
    turn_of_stream,
    whole,
)
from tests.support.recordings import cases, load_recording
from tests.support.requests import ask_of

STOP = chunk(finish_reason="stop")
CALLED = chunk(finish_reason="tool_calls")
PARIS = '{"city": "Paris"}'
CAPPED = ask_of(request={"tools": TOOLS}, overrides={"max_output_tokens": 20})
HARMONY = ask_of(request={"tools": TOOLS}, harmony=True)

GROUPS = ("chat/tiny-qwen3", "chat/tiny-gpt-oss")
PATTERNS = ("chat_*_stream", "cfm_*_stream", "cont_*_chat_kv_stream", "kvb_*_stream")

TOLD_DIFFERENTLY = {
    # A call that the cap cuts is a call if streamed, but markup if not.
    ("chat/tiny-qwen3", "chat_cut_in_second_call_40_stream"),
    ("chat/tiny-qwen3", "chat_cut_in_second_call_50_stream"),
    *(("chat/tiny-qwen3", f"chat_cut_in_tool_{cut}_stream") for cut in (16, 20, 22, 24, 26, 28, 30)),
    ("chat/tiny-qwen3", "chat_tc_named_cut_stream"),
    ("chat/tiny-qwen3", "chat_tc_required_cut_stream"),
    # A stop string that is markup leaves one brace too many if streamed.
    ("chat/tiny-qwen3", "chat_stop_is_markup_stream"),
    # The text that `echo` repeats comes first if streamed.
    ("chat/tiny-qwen3", "chat_echo_stream"),
    ("chat/tiny-qwen3", "chat_echo_no_continue_stream"),
    # A call that `tool_choice` forbids, or does not allow because it is null, is lost if not streamed.
    ("chat/tiny-qwen3", "chat_tc_null_stream"),
    ("chat/tiny-gpt-oss", "chat_tc_null_stream"),
    ("chat/tiny-gpt-oss", "chat_tc_none_stream"),
    # What continues a prompt after its reasoning is text if streamed, reasoning if not.
    *(("chat/tiny-qwen3", f"cfm_{case}_stream") for case in (
        "reasoning", "reasoning_empty", "text", "text_raw", "text_no_reasoning", "text_trailing_newline", "tool_inline",
    )),
    *(("chat/tiny-qwen3", f"cont_{case}_chat_kv_stream") for case in (
        "count_60", "preamble_16", "preamble_30", "preamble_36", "text_20", "tool_17", "tool_22", "tool_25", "tool_28",
        "tool_31", "two_40", "two_48",
    )),
    # Ids that end within a message are read as a call of `final`; unstreamed they give nothing.
    ("chat/tiny-gpt-oss", "cont_text_20_chat_kv_stream"),
}  # fmt: skip


def recorded_streams() -> list[tuple[str, str]]:
    named = [(group, case) for group in GROUPS for pattern in PATTERNS for case in cases(group, pattern)]
    return [name for name in named if load_recording(*name).is_stream]


def paired_streams() -> list[tuple[str, str]]:
    """The streams of replies that were recorded unstreamed too."""
    return [(group, case) for group, case in recorded_streams() if case.removesuffix("_stream") in cases(group)]


def parts(turn: Turn | None) -> object:
    """What a streamed and an unstreamed turn have in common: all but ids, and the usage, which few streams ask for."""
    if turn is None:
        return None
    items = [
        msgspec.structs.replace(item, call_id="") if isinstance(item, FunctionCall) else item for item in turn.items
    ]
    return items, turn.status, turn.incomplete_reason, turn.tokens, turn.logprobs


def call(arguments: str, name: str = "get_weather", call_id: str = "a", *, complete: bool = True) -> FunctionCall:
    return FunctionCall(call_id, name, arguments, unrecognised=True, complete=complete)


def items_of(*chunks: object) -> list[Item]:
    return list(turn_of_stream(*chunks, CALLED).items)


@pytest.mark.parametrize(("group", "case"), [pair for pair in paired_streams() if pair not in TOLD_DIFFERENTLY])
def test_a_streamed_reply_is_that_of_the_unstreamed_request(group: str, case: str) -> None:
    streamed, unstreamed = load_recording(group, case), load_recording(group, case.removesuffix("_stream"))
    ask = ask_for(streamed, harmony=group == "chat/tiny-gpt-oss")

    result = fold_recording(streamed, ask)

    expected = None if unstreamed.status != 200 else fold_recording(unstreamed, ask).turn
    assert parts(result.turn) == parts(expected)
    assert (result.failure is None) == (unstreamed.status == 200)


@pytest.mark.parametrize(("group", "case"), sorted(TOLD_DIFFERENTLY))
def test_no_exception_from_that_is_needless(group: str, case: str) -> None:
    streamed, unstreamed = load_recording(group, case), load_recording(group, case.removesuffix("_stream"))
    ask = ask_for(streamed, harmony=group == "chat/tiny-gpt-oss")

    assert parts(fold_recording(streamed, ask).turn) != parts(fold_recording(unstreamed, ask).turn)


@pytest.mark.parametrize(("group", "case"), recorded_streams())
def test_a_recorded_stream_is_the_same_however_it_is_read(group: str, case: str) -> None:
    recording = load_recording(group, case)
    ask = ask_for(recording, harmony=group == "chat/tiny-gpt-oss")
    body, size = recording.body, 1 + len(recording.body) % 97

    result = fold_reads([body[start : start + size] for start in range(0, len(body), size)], ask)

    whole_read = fold_reads([body], ask)
    assert (result.turn, result.failure) == (whole_read.turn, whole_read.failure)
    assert "".join(u.text for u in result.updates if isinstance(u, BlockDelta)) == "".join(
        update.text for update in whole_read.updates if isinstance(update, BlockDelta)
    )


def test_reasoning_and_text_of_one_delta_are_two_blocks() -> None:
    result = fold_stream(
        chunk({"reasoning": "Hm"}), chunk({"content": "H", "reasoning": "m"}), chunk({"content": "i"}), STOP
    )

    assert result.turn is not None
    assert result.turn.items == (Reasoning("Hmm"), Text("Hi"))
    assert result.updates == [
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "Hmm"),
        BlockEnd(0, "thinking"),
        BlockStart(1, "text"),
        BlockDelta(1, "text", "Hi"),
        BlockEnd(1, "text"),
    ]


def test_the_finish_chunk_may_have_the_end_of_each_part() -> None:
    ends = [
        chunk({"reasoning": "."}, "length"),
        chunk({"content": "."}, "stop"),
        calls(piece("}", index=0), finish_reason="tool_calls"),
    ]
    starts = [chunk({"reasoning": "Hm"}), chunk({"content": "Hi"}), calls(piece("{", "get_time", id="a", index=0))]

    turns = [turn_of_stream(start, end) for start, end in zip(starts, ends, strict=True)]

    assert [turn.items for turn in turns] == [(Reasoning("Hm."),), (Text("Hi."),), (call("{}", "get_time"),)]


def test_blank_text_between_reasoning_and_a_call_is_no_block() -> None:
    turn = turn_of_stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning": "Hm"}),
        chunk({"content": "\n\n"}),
        calls(piece(PARIS, "get_weather", id="a", index=0)),
        CALLED,
    )

    assert turn.items == (Reasoning("Hm"), call(PARIS))


def test_text_after_a_call_is_a_block_after_it() -> None:
    items = items_of(chunk({"content": "A"}), calls(piece("{}", "get_time", id="a", index=0)), chunk({"content": "B"}))

    assert items == [Text("A"), call("{}", "get_time"), Text("B")]


def test_a_refusal_is_a_refused_text() -> None:
    assert turn_of_stream(chunk({"refusal": "No"}), chunk({"refusal": "."}), STOP).items == (Text("No.", refusal=True),)


def test_reasoning_told_twice_is_one_thought() -> None:
    details = [{"type": "reasoning.text", "text": "Hm"}]

    repeated = turn_of_stream(
        chunk({"reasoning": "Hm"}), chunk({"reasoning_details": details}), chunk({"content": "x"}), STOP
    )
    only = turn_of_stream(chunk({"reasoning_details": details}), chunk({"content": "x"}), STOP)

    assert repeated.items == only.items == (Reasoning("Hm"), Text("x"))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (
            [piece("", "get_weather", id="a", index=0), piece('{"city": ', index=0), piece('"Paris"}', index=0)],
            [call(PARIS)],
        ),
        ([piece(None, "get_weather", id="a"), piece('{"city": '), piece('"Paris"}')], [call(PARIS)]),
        (
            [piece('{"city": ', "get_weather", id="a", index=0), piece('"Paris"}', "get_weather", id="a", index=0)],
            [call(PARIS)],
        ),
        (
            [piece("{}", "get_time", id="a", index=0), piece(PARIS, "get_weather", id="b", index=0)],
            [call("{}", "get_time"), call(PARIS, call_id="b")],
        ),
        (
            [piece("{}", "get_time", id="a"), piece('{"city": ', "get_weather", id="b"), piece('"Paris"}')],
            [call("{}", "get_time"), call(PARIS, call_id="b")],
        ),
        (
            [piece("{}", "get_time", id="a", index=0), piece("{}", "get_time", id="a", index=1)],
            [call("{}", "get_time"), call("{}", "get_time")],
        ),
        (
            [
                piece('{"city": ', "get_weather", id="a", index=0),
                piece("{", "get_time", id="b", index=1),
                piece('"Paris"}', index=0),
                piece("}", index=1),
            ],
            [call(PARIS), call("{}", "get_time", "b")],
        ),
        (
            [
                piece('{"city": ', "get_weather", id="a", index=0),
                piece("{", "get_time", id="b", index=0),
                piece('"Paris"}', id="a", index=0),
                piece("}", id="b", index=0),
            ],
            [call(PARIS), call("{}", "get_time", "b")],
        ),
        ([piece(name="get_"), piece(name="weather"), piece(PARIS, id="a")], [call(PARIS)]),
        ([piece(name="get_"), piece(name="get_weather"), piece(PARIS, id="a")], [call(PARIS)]),
        ([piece({"city": "Paris"}, "get_weather", id="a")], [call('{"city":"Paris"}')]),
        (
            [piece(PARIS, "get_weather", index=0), piece("{}", "get_time", index=0)],
            [call(PARIS, call_id="call_1_0"), call("{}", "get_time", "call_1_1")],
        ),
        (
            [piece("{}", "get_time"), piece("{}", "get_time")],
            [call("{}", "get_time", "call_1_0"), call("{}", "get_time", "call_1_1")],
        ),
        (
            [piece("{", "get_time"), piece("}", "get_time")],
            [call("{}", "get_time", "call_1_0")],
        ),
        ([piece('{"x": "\ud83d', "f", id="a"), piece('\ude00"}')], [call('{"x": "😀"}', "f")]),
    ],
    ids=[
        "as vLLM", "without an index", "id and name in every piece", "every call at index 0",
        "only ids tell calls apart", "one id for two calls", "in turns, by index", "in turns, by id",
        "a name in pieces", "a growing name",
        "arguments as an object", "no ids", "no ids, no index, one tool", "a name in every piece, no ids",
        "half a character",
    ],
)  # fmt: skip
def test_the_pieces_of_calls_are_put_together(pieces: list[dict[str, Any]], expected: list[Item]) -> None:
    assert items_of(*map(calls, pieces)) == expected
    assert items_of(calls(*pieces)) == expected


def test_a_call_of_the_older_kind_is_a_call() -> None:
    pieces = [{"name": "get_weather", "arguments": ""}, {"arguments": '{"city": '}, {"arguments": '"Paris"}'}]

    turn = turn_of_stream(*(chunk({"function_call": one}) for one in pieces), chunk(finish_reason="function_call"))

    assert (turn.items, turn.status) == ((call(PARIS, call_id="call_1_0"),), Status.COMPLETED)


def shown_after(*pieces: dict[str, Any]) -> list[object]:
    """What hooks have seen before the reply ends."""
    fold = ChatFold(Blocks(), ASK)
    return [
        update
        for batch in events_of_reads([stream(*map(calls, pieces), done=False)])
        for update in fold.push_all(batch)
    ]


def test_a_call_starts_as_soon_as_its_tool_is_known() -> None:
    assert shown_after(piece("", "get_time", id="a", index=0)) == [BlockStart(0, "tool_use", "get_time")]


def test_a_name_that_may_go_on_is_known_with_the_first_argument() -> None:
    assert shown_after(piece("", "get_weather", id="a")) == []
    assert shown_after(piece("{", "get_weather", id="a")) == [BlockStart(0, "tool_use", "get_weather")]
    assert shown_after(piece("", "get_weather", id="a"), piece("", "_now")) == [
        BlockStart(0, "tool_use", "get_weather_now")
    ]


def test_a_call_of_an_unknown_tool_starts_when_it_is_complete() -> None:
    unknown = piece("{}", "get_wether", id="a", index=0)

    assert shown_after(unknown) == []
    assert shown_after(unknown, piece("", "get_time", id="b", index=1)) == [
        BlockStart(0, "tool_use", "get_wether"),
        BlockEnd(0, "tool_use"),
        BlockStart(1, "tool_use", "get_time"),
    ]


def test_a_call_of_a_tool_that_was_not_offered_is_not_run() -> None:
    turn = turn_of_stream(calls(piece("{}", "analysis", id="a", index=0)), CALLED)

    assert isinstance(to_response(turn, TOOLS, None), BadCall)


@pytest.mark.parametrize(
    ("reason", "status", "incomplete"),
    [
        ("stop", Status.COMPLETED, None),
        ("tool_calls", Status.COMPLETED, None),
        ("function_call", Status.COMPLETED, None),
        ("eos_token", Status.COMPLETED, None),
        ("length", Status.INCOMPLETE, "max_output_tokens"),
        ("content_filter", Status.INCOMPLETE, "content_filter"),
    ],
)
def test_a_finish_reason_decides_the_status(reason: str, status: Status, incomplete: str | None) -> None:
    streamed = turn_of_stream(chunk({"content": "Hi"}), chunk(finish_reason=reason))
    unstreamed = turn_of_body(whole({"content": "Hi"}, reason))

    assert (streamed.status, streamed.incomplete_reason) == (status, incomplete)
    assert (unstreamed.status, unstreamed.incomplete_reason) == (status, incomplete)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_aborted_reply_is_a_failure_worth_another_attempt(reason: str) -> None:
    results = [
        fold_stream(chunk({"content": "Hi"}), chunk(finish_reason=reason)),
        fold_body(whole({"content": "Hi"}, reason)),
    ]

    for result in results:
        assert (result.turn, result.failure is None) == (None, False)
        error = failed_stream(result.failure or Failure(""), "m")
        assert isinstance(error, ProviderUnavailableError)
        assert error.retryable


@pytest.mark.parametrize("done", [True, False])
def test_a_stream_without_a_finish_reason_is_broken(done: bool) -> None:
    result = fold_stream(chunk({"content": "Hi"}), done=done)

    assert (result.turn, result.failure) == (None, None)


def test_a_finished_stream_without_done_is_complete() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}

    turn = turn_of_stream(chunk({"content": "Hi"}), STOP, usage, done=False)

    assert (turn.items, turn.usage) == ((Text("Hi"),), TokenUsage(1, 2))


def test_an_unstreamed_reply_is_complete_without_a_finish_reason() -> None:
    assert turn_of_body(whole({"content": "Hi"}, None)).status is Status.COMPLETED


def test_nothing_counts_after_the_end() -> None:
    assert turn_of_stream(chunk({"content": "Hi"}), STOP).items == (Text("Hi"),)
    assert fold_reads([stream(chunk({"content": "Hi"}), STOP) + stream(chunk({"content": "!"}), STOP)]).turn == (
        turn_of_stream(chunk({"content": "Hi"}), STOP)
    )


@pytest.mark.parametrize("finished", [True, False])
def test_an_error_in_a_stream_fails_the_reply(finished: bool) -> None:
    error = {"error": {"message": "EngineCore encountered an issue", "type": "InternalServerError", "code": 500}}

    result = fold_stream(chunk({"content": "Hi"}, "stop" if finished else None), error)

    assert (result.turn, result.failure) == (
        None,
        Failure("EngineCore encountered an issue", 500, "InternalServerError"),
    )


def test_a_call_beside_length_is_never_run() -> None:
    """Cut before its arguments, vLLM gives a call of Qwen's the arguments `{}`."""
    streamed = turn_of_stream(calls(piece("{}", "get_time", id="a", index=0), finish_reason="length"))
    unstreamed = turn_of_body(whole({"tool_calls": [piece("{}", "get_time", id="a")]}, "length"))

    for turn in (streamed, unstreamed):
        assert turn.items == (call("{}", "get_time", complete=False),)
        response = to_response(turn, TOOLS, None)
        assert not isinstance(response, BadCall)
        assert (response.tool_calls, response.finish_reason) == (None, "length")


def test_a_finished_call_before_the_cut_one_is_run() -> None:
    turn = turn_of_stream(
        calls(piece("{}", "get_time", id="a", index=0)),
        calls(piece('{"city": ', "get_weather", id="b", index=1)),
        chunk(finish_reason="length"),
    )

    response = to_response(turn, TOOLS, None)

    assert not isinstance(response, BadCall)
    assert [one.name for one in response.tool_calls or []] == ["get_time"]


@pytest.mark.parametrize(
    ("usage", "truncated"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 20}, True),
        ({"prompt_tokens": 5, "completion_tokens": 19}, False),
        (None, False),
    ],
    ids=["at the cap", "below the cap", "without usage"],
)
def test_broken_arguments_at_the_cap_are_a_truncated_reply(usage: object, truncated: bool) -> None:
    """gpt-oss: vLLM reports `tool_calls` for a call that the cap has cut."""
    cut = piece('{"city":', "get_weather", id="a", index=0)

    streamed = turn_of_stream(calls(cut, finish_reason="tool_calls") | {"usage": usage}, ask=CAPPED)
    unstreamed = turn_of_body(whole({"tool_calls": [cut]}, "tool_calls", usage=usage), CAPPED)

    assert streamed.truncated is unstreamed.truncated is truncated
    assert streamed.items == unstreamed.items == (call('{"city":', complete=not truncated),)


def test_token_ids_tell_the_cap_where_the_usage_does_not() -> None:
    cut = calls(piece('{"city":', "get_weather", id="a", index=0), finish_reason="tool_calls")
    cut["choices"][0]["token_ids"] = list(range(20))

    assert turn_of_stream(cut, ask=CAPPED).truncated


def test_complete_arguments_at_the_cap_are_a_complete_call() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 20}

    turn = turn_of_stream(
        calls(piece(PARIS, "get_weather", id="a"), finish_reason="tool_calls") | {"usage": usage}, ask=CAPPED
    )

    assert (turn.truncated, turn.items) == (False, (call(PARIS),))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"city": "Z\\u00fcrich \\ud83d\\ude00"}', '{"city": "Zürich 😀"}'),
        ('{"city":"Z\\u00fcrich"}', '{"city":"Z\\u00fcrich"}'),
        ('{"city": "\\ud83d"}', '{"city": "\\ud83d"}'),
        ('{"city": "Z\\u00fc', '{"city": "Z\\u00fc'),
        ('{"a": 1.0, "city": "Z\\u00fcrich"}', '{"a": 1.0, "city": "Zürich"}'),
    ],
    ids=["as vLLM writes them", "compact", "half a character", "broken", "a number"],
)
def test_unstreamed_arguments_of_gpt_oss_are_as_the_model_wrote_them(arguments: str, expected: str) -> None:
    message = {"tool_calls": [piece(arguments, "get_weather", id="a")]}

    assert turn_of_body(whole(message), HARMONY).items == (call(expected),)
    assert turn_of_body(whole(message)).items == (call(arguments),)
    assert turn_of_stream(chunk(message), CALLED, ask=HARMONY).items == (call(arguments),)


def test_half_characters_of_two_deltas_are_one() -> None:
    deltas = [{"content": "a\ud83d"}, {"content": "\ude00b"}, {"content": "\ud83d"}, {"content": "c"}]

    assert turn_of_stream(*map(chunk, deltas), STOP).items == (Text("a😀bc"),)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7.0,
                "prompt_tokens_details": {"cached_tokens": 3, "created_cache_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": "2"},
            },
            TokenUsage(5, 7, reasoning_tokens=2, cached_tokens=3, cache_write_tokens=1),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": None}, TokenUsage(5, 7)),
        ({"prompt_tokens": "many", "completion_tokens": 7}, None),
        ("much", None),
        (None, None),
    ],
)
def test_usage_is_read_leniently(usage: object, expected: TokenUsage | None) -> None:
    streamed = turn_of_stream(chunk({"content": "Hi"}) | {"usage": {}}, STOP, {"choices": [], "usage": usage})
    unstreamed = turn_of_body(whole({"content": "Hi"}, usage=usage))

    assert streamed.usage == unstreamed.usage == expected


def test_token_ids_and_logprobs_are_those_of_all_chunks() -> None:
    entries = [{"token": "H", "logprob": -1.0, "bytes": None, "top_logprobs": []}, {"token": "i", "logprob": -2.0}]

    turn = turn_of_stream(
        chunk({"role": "assistant"}, token_ids=None, logprobs=None) | {"prompt_token_ids": [1, 2]},
        chunk({"content": "H"}, token_ids=[3], logprobs={"content": entries[:1]}),
        chunk({"content": "i"}, "stop", token_ids=[4, 5], logprobs={"content": entries[1:]}),
    )

    assert turn.tokens == ReplyTokens((1, 2), (3, 4, 5))
    assert turn.logprobs == (TokenLogprob("H", -1.0), TokenLogprob("i", -2.0))


@pytest.mark.parametrize("fields", [{}, {"prompt_token_ids": [1]}])
def test_token_ids_are_there_only_with_both_sides(fields: dict[str, Any]) -> None:
    turn = turn_of_stream(chunk({"content": "Hi"}) | fields, STOP)

    assert (turn.tokens, turn.logprobs) == (None, None)


def test_the_raw_reply_is_the_body_or_what_the_chunks_say() -> None:
    body = whole({"content": "Hi"})
    called = calls(piece(PARIS, "get_weather", id="a", index=0), finish_reason="tool_calls")

    streamed = turn_of_stream(
        chunk({"reasoning": "Hm"}), chunk({"content": "Hi"}), called | {"usage": {"prompt_tokens": 1}}
    )

    function = {"name": "get_weather", "arguments": PARIS}
    message = {"role": "assistant", "reasoning": "Hm", "content": "Hi"}
    message |= {"tool_calls": [{"id": "a", "type": "function", "function": function}]}  # type: ignore[dict-item]  # mixed
    assert turn_of_body(body).raw == body
    assert read_json(streamed.raw) == {
        "id": "chatcmpl-1",
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1},
    }
    assert (streamed.response_id, streamed.model) == ("chatcmpl-1", "tiny")


@pytest.mark.parametrize(
    "chunk_",
    [
        calls(piece("x" * 1_000_000, "get_time", index=0)),
        chunk({}, token_ids=[1] * 100_000),
        chunk({}, logprobs={"content": [{"token": "a", "logprob": 0}] * 20_000}),
    ],
    ids=["arguments", "token ids", "logprobs"],
)
def test_a_reply_without_end_is_refused(chunk_: dict[str, Any]) -> None:
    ((event,),) = [batch for batch in events_of_reads([stream(chunk_, done=False)]) if batch]
    fold = ChatFold(Blocks(), ASK)

    with pytest.raises(RefusedBodyError):
        list(fold.push_all(event for _ in range(300)))


def test_no_error_is_lost_for_a_status_without_an_error_body() -> None:
    result = fold_body(b'{"object": "error", "message": "The model is overloaded", "code": 503}')

    error = failed_stream(result.failure or Failure(""), "m")

    assert isinstance(error, LLMError)
    assert (error.status_code, error.retryable) == (503, True)
