"""A Turn becomes a ChatResponse: nothing lost, nothing invented, and no unintended call."""

import json
from decimal import Decimal
from typing import Any

import pytest
from amplifier_core.content_models import TextContent, ThinkingContent, ToolCallContent
from amplifier_core.message_models import (
    ChatResponse,
    Degradation,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    ToolCallBlock,
    ToolSpec,
    Usage,
)

from amplifier_module_provider_vllm._config import Rates
from amplifier_module_provider_vllm._response_handling import BadCall, parse_arguments, to_response, to_usage
from amplifier_module_provider_vllm._turn import (
    FunctionCall,
    Item,
    OtherItem,
    Reasoning,
    Status,
    Text,
    TokenUsage,
    Turn,
)
from tests.support.recordings import load_recording
from tests.support.rounds import MODELS, response_of, streams_of, turn_of

SCHEMA = {
    "type": "object",
    "properties": {
        "where": {"type": "object"},
        "days": {"type": "array"},
        "content": {"type": "string"},
        "anything": {},
    },
}
LOOK = ToolSpec(name="look", parameters=SCHEMA)
PRICED_WRITES = Rates(input=1, output=1, cache_write=1)
CALL = FunctionCall("call_1", "look", '{"content": "x"}')


def extras(response: ChatResponse, name: str) -> Any:
    return (response.model_extra or {})[name]


def response_to(*items: Item, **fields: Any) -> ChatResponse:
    return response_of(Turn(items, **({"status": Status.COMPLETED} | fields)), [LOOK])


def test_every_item_is_in_the_response_in_order() -> None:
    turn = Turn(
        (Reasoning("Hm."), Text("So: "), CALL, OtherItem("web_search_call", "[web_search_call: Paris]")),
        Status.COMPLETED,
        response_id="resp_1",
        model="tiny",
        usage=TokenUsage(9, 5, 3, 4, 2),
    )

    response = response_of(turn, [LOOK])

    assert response == ChatResponse(
        content=[
            ThinkingBlock(thinking="Hm."),
            TextBlock(text="So: "),
            ToolCallBlock(id="call_1", name="look", input={"content": "x"}),
            TextBlock(text="[web_search_call: Paris]"),
        ],
        tool_calls=[ToolCall(id="call_1", name="look", arguments={"content": "x"})],
        usage=Usage(
            input_tokens=9,
            output_tokens=5,
            total_tokens=14,
            reasoning_tokens=3,
            cache_read_tokens=4,
        ),
        finish_reason="tool_calls",
        metadata={"vllm:status": "completed", "vllm:response_id": "resp_1", "vllm:model": "tiny"},
        content_blocks=[
            ThinkingContent(text="Hm."),
            TextContent(text="So: "),
            ToolCallContent(id="call_1", name="look", arguments={"content": "x"}),
            TextContent(text="[web_search_call: Paris]"),
        ],
        text="So: [web_search_call: Paris]",
    )


@pytest.mark.parametrize(("group", "case"), streams_of(*MODELS))
def test_the_three_views_of_a_recorded_reply_agree(group: str, case: str) -> None:
    turn = turn_of(load_recording(group, case))

    response = response_of(turn)

    blocks = extras(response, "content_blocks")
    calls = [block for block in response.content if isinstance(block, ToolCallBlock)]
    assert [block.type.value for block in blocks] == [block.type for block in response.content]
    assert [(call.id, call.name) for call in response.tool_calls or []] == [(call.id, call.name) for call in calls]
    assert [block.to_dict()["type"] for block in blocks] == [block.type for block in response.content]
    assert json.loads(response.model_dump_json())["metadata"] == response.metadata


@pytest.mark.parametrize(
    ("items", "fields", "reason"),
    [
        ([Text("Hi")], {}, "stop"),
        ([CALL], {}, "tool_calls"),
        ([Text("Hi")], {"status": Status.INCOMPLETE, "incomplete_reason": "max_output_tokens"}, "length"),
        ([CALL], {"status": Status.INCOMPLETE}, "length"),
        ([Text("Hi")], {"status": Status.INCOMPLETE, "incomplete_reason": "content_filter"}, "content_filter"),
        ([Text("I will not.", refusal=True)], {}, "content_filter"),
        ([Reasoning("Hm")], {}, "stop"),
    ],
    ids=["text", "call", "cut off", "cut off behind a call", "filtered", "refused", "reasoning alone"],
)
def test_the_finish_reason_is_decided(items: list[Item], fields: dict[str, Any], reason: str) -> None:
    assert response_to(*items, **fields).finish_reason == reason


def test_a_reply_without_text_has_none() -> None:
    assert extras(response_to(Reasoning("Hm")), "text") is None


def test_metadata_contains_only_known_values() -> None:
    cut = response_to(Text("Hi"), status=Status.INCOMPLETE, incomplete_reason="max_output_tokens")

    assert response_to(Text("Hi")).metadata == {"vllm:status": "completed"}
    assert cut.metadata == {"vllm:status": "incomplete", "vllm:incomplete_reason": "max_output_tokens"}


def test_more_cached_than_input_tokens_cost_nothing_less() -> None:
    usage = to_usage(TokenUsage(10, 5, cached_tokens=400), Rates(input=1, output=10, cache_read=0))

    assert usage is not None
    assert usage.cost_usd == Decimal("0.00005")


def test_cache_writes_are_told_only_if_they_have_a_price() -> None:
    counted = TokenUsage(9, 5, cache_write_tokens=2)

    usages = [to_usage(counted, rates) for rates in (None, Rates(input=1, output=1), PRICED_WRITES)]

    assert [usage and usage.cache_write_tokens for usage in usages] == [None, None, 2]


@pytest.mark.parametrize("arguments", ['{"content": "x', "", "{"], ids=["cut", "empty", "begun"])
def test_a_truncated_call_is_not_run(arguments: str) -> None:
    response = response_to(Text("So:"), FunctionCall("call_1", "look", arguments), status=Status.INCOMPLETE)

    note = TextBlock(text="[The reply was cut off in a call of look.]")
    assert (response.content, response.tool_calls) == ([TextBlock(text="So:"), note], None)
    assert extras(response, "content_blocks") == [TextContent(text="So:"), TextContent(text=note.text)]


@pytest.mark.parametrize(
    ("group", "case"), [(group, case) for group, case in streams_of(*MODELS) if "cut_in_call" in case]
)
def test_no_recorded_truncated_call_is_run(group: str, case: str) -> None:
    response = response_of(turn_of(load_recording(group, case)))

    assert (response.tool_calls, response.finish_reason) == (None, "length")


def test_a_complete_call_before_the_truncation_is_run() -> None:
    cut = FunctionCall("call_2", "look", '{"content":')

    response = response_to(CALL, cut, status=Status.INCOMPLETE)

    assert response.tool_calls == [ToolCall(id="call_1", name="look", arguments={"content": "x"})]


@pytest.mark.parametrize(
    ("written", "opened"),
    [
        ('{"content": "x"}', {"content": "x"}),
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"content": "{\\"a\\": 1}"}', {"content": '{"a": 1}'}),
        ('{"where": "{\\"a\\": 1}"}', {"where": {"a": 1}}),
        ('{"days": "[1, 2]"}', {"days": [1, 2]}),
        ('{"days": "{}"}', {"days": "{}"}),
        ('{"where": "not JSON"}', {"where": "not JSON"}),
        ('{"where": {"a": "[1]"}}', {"where": {"a": "[1]"}}),
        ('{"anything": "[1]", "unknown": "[1]"}', {"anything": "[1]", "unknown": "[1]"}),
    ],
    ids=[
        "plain", "none", "white space", "an empty object", "JSON that is meant as text", "an object in a string",
        "a list in a string", "an object where a list belongs", "no JSON", "deeper", "where no type is given",
    ],
)  # fmt: skip
def test_nested_json_strings_are_parsed_only_if_the_schema_requires_it(written: str, opened: dict[str, Any]) -> None:
    assert parse_arguments(FunctionCall("call_1", "look", written), SCHEMA) == opened


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"content": "x', "the model called 'look' with arguments that are not JSON"),
        ("not JSON", "the model called 'look' with arguments that are not JSON"),
        ('["x"]', "the model called 'look' with arguments that are not a JSON object"),
        ("null", "the model called 'look' with arguments that are not a JSON object"),
        ('"x"', "the model called 'look' with arguments that are not a JSON object"),
    ],
)
def test_malformed_arguments_are_never_run(arguments: str, message: str) -> None:
    call = FunctionCall("call_1", "look", arguments)

    bad = to_response(Turn((Text("So:"), call), Status.COMPLETED), [LOOK], None)

    assert isinstance(bad, BadCall)
    error = bad.error("tiny")
    assert bad.call is call
    assert str(error).startswith(message)
    assert (error.tool_name, error.raw_arguments, error.provider, error.model) == ("look", arguments, "vllm", "tiny")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        (TokenUsage(0, 0), Usage(input_tokens=0, output_tokens=0, total_tokens=0)),
        (TokenUsage(9, 5), Usage(input_tokens=9, output_tokens=5, total_tokens=14)),
    ],
    ids=["none", "zeros", "counts"],
)
def test_usage_comes_from_the_server(usage: TokenUsage | None, expected: Usage | None) -> None:
    assert to_usage(usage, None) == expected


@pytest.mark.parametrize(
    ("rates", "cost"),
    [
        (Rates(input=1, output=10), "0.002"),
        (Rates(input=1, output=10, cache_read=0.1), "0.00164"),
        (Rates(input=1, output=10, cache_read=0, cache_write=2), "0.0017"),
        (Rates(input=0, output=0), "0"),
    ],
    ids=["input and output", "cached tokens cheaper", "written tokens dearer", "free"],
)
def test_the_cost_of_a_reply_is_computed(rates: Rates, cost: str) -> None:
    usage = to_usage(TokenUsage(1_000, 100, cached_tokens=400, cache_write_tokens=100), rates)

    assert usage is not None
    assert usage.cost_usd == Decimal(cost)


def test_degradations_are_reported_once() -> None:
    image = Degradation(requested="image", actual="text", reason="tiny cannot see")
    effort = Degradation(requested="reasoning effort max", actual="reasoning effort high", reason="gpt-oss")

    response = response_of(Turn((Text("Hi"),), Status.COMPLETED), degradations=[image, effort, image])

    assert response.degradation == Degradation(
        requested="image, reasoning effort max",
        actual="text, reasoning effort high",
        reason="tiny cannot see; gpt-oss",
    )


def test_a_call_announced_without_arguments_is_not_run() -> None:
    announced = FunctionCall("call_1", "look", "", complete=False)

    bad = to_response(Turn((announced,), Status.COMPLETED), [LOOK], None)

    assert bad == BadCall(announced, "without sending its arguments")
