"""Markup in a text is a call only where the model itself writes one: its own format, outside code, at the end."""

import json
import logging
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest, Message, ToolSpec

from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.replay import ReplayServer, Reply, json_reply
from tests.support.replies import call_item, cut_reply, full_reply, message_item, reasoning_item

COMMAND = {"type": "object", "properties": {"command": {"type": "string"}}}
REQUEST = ChatRequest(
    messages=[Message(role="user", content="How does a model call a tool?")],
    tools=[ToolSpec(name="bash", parameters=COMMAND), ToolSpec(name="now", parameters={"type": "object"})],
)
ARGUMENTS = '{"command": "rm -rf /"}'
HERMES = f'<tool_call>\n{{"name": "bash", "arguments": {ARGUMENTS}}}\n</tool_call>'
LLAMA = f"<function=bash>{ARGUMENTS}</function>"
CODER = "<tool_call>\n<function=bash>\n<parameter=command>\nrm -rf /\n</parameter>\n</function>\n</tool_call>"
MISTRAL = f'[TOOL_CALLS] [{{"name": "bash", "arguments": {ARGUMENTS}}}]'
MISTRAL_ARGS = f"[TOOL_CALLS]bash[ARGS]{ARGUMENTS}"
KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.bash:0<|tool_call_argument_begin|>"
    f"{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>"
)
HARMONY = f"<|start|>assistant<|channel|>commentary to=functions.bash <|constrain|>json<|message|>{ARGUMENTS}<|call|>"
QWEN, GPT_OSS, UNKNOWN = "Qwen/Qwen3-8B", "openai/gpt-oss-20b", "house-model"
MODELS = {
    QWEN: [HERMES, CODER],
    "NousResearch/Hermes-3-Llama-3.1-8B": [HERMES],
    "meta-llama/Llama-3.1-8B-Instruct": [LLAMA],
    "mistralai/Mistral-Small-24B": [MISTRAL, MISTRAL_ARGS],
    "moonshotai/Kimi-K2": [KIMI],
    UNKNOWN: [HERMES, CODER, LLAMA, MISTRAL, MISTRAL_ARGS, KIMI],
    GPT_OSS: [HARMONY],
}
FORMATS = [HERMES, CODER, LLAMA, MISTRAL, MISTRAL_ARGS, KIMI, HARMONY]
OWN = [(model, markup) for model, own in MODELS.items() for markup in own]
OTHER = [(model, markup) for model, own in MODELS.items() for markup in FORMATS if markup not in own]

QUOTES = {
    "in prose": f"It writes {HERMES}",
    "in prose before more prose": f"It writes\n{HERMES}\nand waits for the result.",
    "before a question": f"{HERMES}\nIs that what you want?",
    "before a full stop": f"It writes\n{HERMES}.",
    "inline code": f"It writes `{HERMES}`",
    "double backticks": f"It writes ``{HERMES}``",
    "inline code over lines": f"It writes `\n{HERMES}\n`",
    "a fence": f"It writes:\n```\n{HERMES}\n```",
    "a fence with an info string": f"It writes:\n```xml\n{HERMES}\n```\n",
    "a fence with attributes": f'It writes:\n``` {{.xml title="call"}}\n{HERMES}\n```',
    "a fence of tildes": f"It writes:\n~~~\n{HERMES}\n~~~",
    "a longer fence": f"It writes:\n````\n```\n{HERMES}\n````",
    "a fence that is not closed": f"It writes:\n```xml\n{HERMES}",
    "a longer fence that is not closed": f"It writes:\n````\n```\nx\n```\n{HERMES}",
    "tildes in an open fence": f"It writes:\n```\n~~~\n{HERMES}",
    "an open fence in a list": f"- ```xml\n{HERMES}",
    "an open fence in a numbered list": f"1. It writes:\n\n   ```xml\n{HERMES}",
    "a second fence that is open": f"```\na\n```\nthen\n```\n{HERMES}",
    "indented code": "It writes:\n\n" + "\n".join(f"    {line}" for line in HERMES.split("\n")),
    "code indented with a tab": "It writes:\n\n" + "\n".join(f"\t{line}" for line in HERMES.split("\n")),
    "a block quote": "It writes:\n\n" + "\n".join(f"> {line}" for line in HERMES.split("\n")),
    "a list item": f"- {HERMES}",
    "double quotes": f'It writes "{HERMES}"',
    "single quotes": f"It writes '{HERMES}'",
    "a table cell": f"| format | call |\n|---|---|\n| Hermes | {HERMES} |",
    "a JSON string": json.dumps({"text": HERMES}),
    "a JSON string on a line": '{"text":\n' + json.dumps(HERMES) + "}",
    "an element around it": f"<example>\n{HERMES}\n</example>",
    "a comment around it": f"<!--\n{HERMES}\n-->",
    "unclosed reasoning": f"<think>\nI could write\n{HERMES}",
    "a second thought": f"<think>a</think>\n<think>\n{HERMES}",
    "a call, prose, a quoted call": f"{HERMES}\nThe same again: `{HERMES}`",
    "another tool among the calls": f'{HERMES}\n<tool_call>{{"name": "other", "arguments": {{}}}}</tool_call>',
    "an unknown tool": HERMES.replace("bash", "zsh"),
    "no end tag": HERMES.removesuffix("</tool_call>"),
    "no start tag": HERMES.removeprefix("<tool_call>"),
    "invalid JSON": HERMES.replace('"name"', "name"),
    "NaN": HERMES.replace('"rm -rf /"', "NaN"),
    "arguments that are no object": HERMES.replace(ARGUMENTS, '"rm -rf /"'),
    "a list of calls": f'<tool_call>[{{"name": "bash", "arguments": {ARGUMENTS}}}]</tool_call>',
    "a bare call": f'{{"name": "bash", "arguments": {ARGUMENTS}}}',
    "a broken second call": f"{HERMES}\n<tool_call>{{</tool_call>",
    "text between calls": f"{HERMES}\nand\n{HERMES}\nor so",
    "tags without a name": f"<function=>{ARGUMENTS}</function>",
    "a parameter that is not closed": "<function=bash>\n<parameter=command>\nrm -rf /\n</function>",
    "text beside the parameters": CODER.replace("<parameter", "or\n<parameter"),
}


async def test_the_stream_of_a_quoted_call_is_not_aborted() -> None:
    recorder = EventRecorder()

    async with (
        ReplayServer(full_reply(message_item(QUOTES["a fence"]))) as server,
        provider_at(server.base_url, recorder, default_model=QWEN) as provider,
    ):
        await provider.complete(REQUEST)

    assert "llm:stream_aborted" not in recorder.names


@pytest.mark.parametrize("text", QUOTES.values(), ids=QUOTES)
@pytest.mark.parametrize("model", [QWEN, UNKNOWN])
async def test_quoted_and_malformed_markup_stays_text(model: str, text: str) -> None:
    response = await _response(model, message_item(text))

    assert (response.tool_calls, response.text, response.finish_reason) == (None, text, "stop")


@pytest.mark.parametrize(("model", "markup"), OTHER)
async def test_a_format_that_the_model_does_not_write_is_a_quote(model: str, markup: str) -> None:
    response = await _response(model, message_item(f"It writes:\n{markup}"))

    assert response.tool_calls is None


@pytest.mark.parametrize(("model", "markup"), OWN)
@pytest.mark.parametrize(
    ("before", "text"),
    [
        pytest.param("", None, id="alone"),
        pytest.param("I will look.\n\n", "I will look.", id="after text"),
        pytest.param("```sh\nls\n```\n", "```sh\nls\n```", id="after a closed fence"),
        pytest.param("Like ```this```:\n", "Like ```this```:", id="after inline code"),
        pytest.param("<think>\nHm.\n</think>\n\n", "<think>\nHm.\n</think>", id="after reasoning in the text"),
    ],
)
async def test_a_call_at_the_end_in_the_models_own_format_is_recovered(
    model: str, markup: str, before: str, text: str | None
) -> None:
    response = await _response(model, message_item(f"{before}{markup}\n"))

    assert [(call.name, call.arguments) for call in response.tool_calls] == [("bash", {"command": "rm -rf /"})]
    assert (response.text, response.finish_reason) == (text, "tool_calls")


@pytest.mark.parametrize(("model", "markup"), OWN)
async def test_several_calls_at_the_end_are_recovered(model: str, markup: str) -> None:
    response = await _response(model, message_item(f"{markup}\n{markup} "))

    assert [call.name for call in response.tool_calls] == ["bash", "bash"]


@pytest.mark.parametrize("quoted", ["```sh\\nls\\n```", "<tool_call>", "</tool_call>", "<think>", "`"])
async def test_arguments_may_contain_markup(quoted: str) -> None:
    call = HERMES.replace("rm -rf /", quoted)

    response = await _response(QWEN, message_item(f"{call}\n{call}"))

    expected = {"command": quoted.replace("\\n", "\n")}
    assert [call.arguments for call in response.tool_calls] == [expected, expected]


async def test_calls_of_two_tools_and_a_call_without_arguments_are_recovered() -> None:
    response = await _response(QWEN, message_item(f"{CODER}\n<function=now></function>\n</tool_call>"))

    assert [(call.name, call.arguments) for call in response.tool_calls] == [
        ("bash", {"command": "rm -rf /"}),
        ("now", {}),
    ]


@pytest.mark.parametrize(("model", "markup"), OWN)
async def test_markup_beside_a_native_call_is_a_quote(model: str, markup: str) -> None:
    native = call_item("{}", name="now")

    before = await _response(model, message_item(f"Not this:\n{markup}"), native)
    after = await _response(model, native, message_item(f"Not this:\n{markup}"))

    assert [call.name for response in (before, after) for call in response.tool_calls] == ["now", "now"]


@pytest.mark.parametrize(("model", "markup"), OWN)
async def test_markup_in_the_reasoning_is_a_thought(model: str, markup: str) -> None:
    response = await _response(model, reasoning_item(f"I could write\n{markup}"), message_item("Hello."))

    assert (response.tool_calls, response.text) == (None, "Hello.")


async def test_markup_before_another_text_is_a_quote() -> None:
    response = await _response(QWEN, message_item(f"It writes:\n{HERMES}"), message_item("Right?"))

    assert response.tool_calls is None


async def test_markup_in_a_refusal_is_a_quote() -> None:
    refusal = f"I will not run\n{HERMES}"
    item = {"type": "message", "id": "msg", "content": [{"type": "refusal", "refusal": refusal}]}

    response = await _response(QWEN, item)

    assert (response.tool_calls, response.text) == (None, refusal)


@pytest.mark.parametrize("name", ["a fence", "inline code", "a block quote", "in prose"])
async def test_a_quote_causes_no_warning_about_flags(name: str, caplog: pytest.LogCaptureFixture) -> None:
    await _response(QWEN, message_item(QUOTES[name]))

    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(("model", "advice"), [(QWEN, "--tool-call-parser"), (GPT_OSS, "no server flag")])
async def test_the_warning_about_a_recovered_call_fits_the_family(
    model: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    await _response(model, message_item(MODELS[model][0]))

    assert "were recovered" in caplog.text
    assert advice in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        f"It writes:\n```\n{HERMES[:40]}",
        f"It writes:\n```\n{HERMES}\n```\nand then",
        f"It writes `{HERMES}` and then",
        f"> {HERMES[:11]}",
        "The tag\n<tool_call>\nopens a call, and",
        f"{HERMES}\nis how it calls a",
        "[TOOL_CALLS] [{",
    ],
    ids=["in a fence", "after a fence", "after inline code", "in a quote", "about a tag", "after it", "another format"],
)
async def test_a_text_truncated_in_or_after_a_quote_is_continued(text: str) -> None:
    async with (
        ReplayServer(
            cut_reply(message_item(text)), full_reply(message_item(" the rest.")), models=card(QWEN)
        ) as server,
        provider_at(server.base_url, default_model=QWEN, max_output_tokens=10) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    assert [asked["max_output_tokens"] for asked in server.request_bodies] == [10, 10]
    assert (response.text, response.tool_calls) == (f"{text} the rest.", None)


@pytest.mark.parametrize(("model", "markup"), [(model, markup) for model, markup in OWN if model != GPT_OSS])
@pytest.mark.parametrize("part", [0.4, 0.7, 0.95, 1.0])
async def test_a_text_truncated_in_its_call_is_asked_again(model: str, markup: str, part: float) -> None:
    text = f"I will look.\n{markup[: int(part * len(markup))]}"
    async with (
        ReplayServer(
            cut_reply(message_item(text)), full_reply(call_item(ARGUMENTS, name="bash")), models=card(model)
        ) as server,
        provider_at(server.base_url, default_model=model, max_output_tokens=10) as provider,
    ):
        response: Any = await provider.complete(REQUEST)

    assert [asked["max_output_tokens"] for asked in server.request_bodies] == [10, 3996]
    assert [call.name for call in response.tool_calls] == ["bash"]


def card(model: str) -> Reply:
    return json_reply(200, {"data": [{"id": model, "max_model_len": 4096}]})


async def _response(model: str, *output: dict[str, Any]) -> Any:
    async with (
        ReplayServer(full_reply(*output)) as server,
        provider_at(server.base_url, default_model=model) as provider,
    ):
        return await provider.complete(REQUEST)
