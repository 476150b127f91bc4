"""Histories that loops and other providers stored: all of it is sent, or a warning or an error names what is not."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ChatRequest, Message, ToolCall

from tests.support.provider_session import provider_session
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer

ANSWER = load_recording("tiny-qwen3", "r1_answer_stream")
LOGGER = "amplifier_module_provider_vllm"
PNG = "iVBORw0KGgo="
DATA_URL = f"data:image/png;base64,{PNG}"
IMAGE = {"type": "input_image", "image_url": DATA_URL, "detail": "auto"}

Stored = dict[str, Any]

HELLO: Stored = {"role": "user", "content": "Hello"}
ENCRYPTED = "reasoning that another provider encrypted is not sent"


@dataclass(frozen=True)
class Sent:
    items: list[Any]
    warnings: list[str]


async def send(history: Sequence[Stored], caplog: pytest.LogCaptureFixture, *, times: int = 1, **config: Any) -> Sent:
    """The input of the last of so many requests with this history, and all warnings."""
    caplog.set_level(logging.WARNING, logger=LOGGER)
    request = ChatRequest(messages=[Message(**message) for message in history])
    async with ReplayServer(*[ANSWER] * times) as server, provider_session(server, **config) as (_session, provider):
        for _ in range(times):
            await provider.complete(request)
    return Sent(server.request_bodies[-1]["input"], [record.getMessage() for record in caplog.records])


def assistant(*blocks: Stored, **fields: Any) -> Stored:
    return {"role": "assistant", "content": list(blocks), **fields}


def tool(content: Any = "sunny", call_id: str | None = "call_1", **fields: Any) -> Stored:
    return {"role": "tool", "content": content, "tool_call_id": call_id, **fields}


def text(words: str) -> Stored:
    return {"type": "text", "text": words}


def call(call_id: str = "call_1", name: str = "look", **arguments: Any) -> Stored:
    return {"type": "tool_call", "id": call_id, "name": name, "input": arguments}


def thinking(words: str, **fields: Any) -> Stored:
    return {"type": "thinking", "thinking": words, **fields}


def gist(items: Sequence[Stored]) -> list[Any]:
    """Kind and content of each item after the first, "Hello"."""
    return [_gist(item) for item in items[1:]]


def _gist(item: Stored) -> Any:
    match item:
        case {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}:
            return call_id, name, json.loads(arguments)
        case {"type": "function_call_output", "call_id": call_id, "output": output}:
            return call_id, output
        case {"type": "reasoning", "content": [{"text": thought}]}:
            return "thought", thought
        case {"role": "assistant", "content": [{"text": words}]}:
            return "said", words
        case {"role": "user", "content": content}:
            return "user", content
        case _:
            raise AssertionError(f"an unknown item: {item}")


@dataclass(frozen=True)
class Case:
    history: list[Stored]
    sent: list[Any]
    warnings: list[str] = field(default_factory=list[str])
    """The beginning of each warning, in order."""


CALL = ("call_1", "look", {"at": "sky"})
RESULT = ("call_1", "sunny")
OPENAI_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}

PEERS = {
    "Anthropic: a thought with its signature": Case(
        [assistant(thinking("Hm", signature="c2ln"), text("Hi"))], [("thought", "Hm"), ("said", "Hi")]
    ),
    "Anthropic: redacted thinking": Case(
        [assistant({"type": "redacted_thinking", "data": "c2VjcmV0"}, text("Hi"))], [("said", "Hi")], [ENCRYPTED]
    ),
    "Anthropic: a signature without its thought": Case(
        [assistant(thinking("", signature="c2ln"), text("Hi"))], [("said", "Hi")], [ENCRYPTED]
    ),
    "Anthropic: calls beside the content": Case(
        [assistant(call(at="sky"), tool_calls=[{"id": "call_1", "name": "look", "arguments": {"at": "sky"}}]), tool()],
        [CALL, RESULT],
    ),
    "Anthropic: calls with their input": Case(
        [assistant(tool_calls=[{"id": "call_1", "name": "look", "input": {"at": "sky"}}]), tool()], [CALL, RESULT]
    ),
    "Anthropic: results in a user's message": Case(
        [
            assistant(call(at="sky")),
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_call_id": "call_1", "output": "sunny"}, text("Well?")],
            },
        ],
        [CALL, RESULT, ("user", "Well?")],
    ),
    "Anthropic: an image in a result": Case(
        [
            assistant(call(at="sky")),
            tool(
                [
                    {
                        "type": "tool_result",
                        "tool_call_id": "call_1",
                        "output": [
                            text("A map:"),
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                        ],
                    }
                ]
            ),
        ],
        [CALL, ("call_1", [{"type": "input_text", "text": "A map:"}, IMAGE])],
    ),
    "OpenAI: a thought with its state": Case(
        [assistant(thinking("Hm", content=["ZW5j", "rs_1"]), text("Hi"), metadata={"openai:response_id": "resp_1"})],
        [("thought", "Hm"), ("said", "Hi")],
    ),
    "OpenAI: a state without a thought": Case(
        [assistant(thinking("", content=["ZW5j", "rs_1"]), text("Hi"))], [("said", "Hi")], [ENCRYPTED]
    ),
    "OpenAI: a reasoning block": Case(
        [assistant({"type": "reasoning", "content": [], "summary": [{"type": "summary_text", "text": "So"}]})],
        [("thought", "So")],
    ),
    "OpenAI: a reasoning block with content and summary": Case(
        [assistant({"type": "reasoning", "content": [{"text": "Hm"}], "summary": [{"text": "So"}]})],
        [("thought", "Hm")],
    ),
    "OpenAI: encrypted content beside a summary": Case(
        [assistant({"type": "reasoning", "content": ["ZW5j"], "summary": [{"text": "So"}]})], [("thought", "So")]
    ),
    "OpenAI: an encrypted reasoning block": Case(
        [assistant({"type": "reasoning", "content": ["ZW5j"], "summary": []}, text("Hi"))],
        [("said", "Hi")],
        [ENCRYPTED],
    ),
    "OpenAI: calls of a chat message": Case(
        [{"role": "assistant", "content": "", "tool_calls": [OPENAI_CALL]}, tool()], [CALL, RESULT]
    ),
    "OpenAI: a function call, before there were tools": Case(
        [
            {"role": "assistant", "content": "", "function_call": {"name": "look", "arguments": '{"at": "sky"}'}},
            {"role": "function", "name": "look", "content": "sunny"},
        ],
        [("call_1_0", "look", {"at": "sky"}), ("call_1_0", "sunny")],
    ),
    "OpenAI: a refusal beside the content": Case(
        [{"role": "assistant", "content": "Hi", "refusal": "No."}],
        [("said", "Hi")],
        ["the field 'refusal' of a message is not sent"],
    ),
    "OpenAI: images by URL and as data": Case(
        [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://there/a.png"}},
                    {"type": "image", "source": {"type": "url", "url": DATA_URL}},
                    {"type": "image", "source": {"type": "base64", "data": DATA_URL}},
                ],
            }
        ],
        [("user", [IMAGE | {"image_url": "https://there/a.png"}, IMAGE, IMAGE])],
    ),
    "OpenAI: image parts in a list of a result": Case(
        [
            assistant(call(at="sky")),
            tool(
                [
                    {
                        "type": "tool_result",
                        "tool_call_id": "call_1",
                        "output": [
                            {"type": "input_text", "text": "A map:"},
                            {"type": "image_url", "image_url": {"url": DATA_URL}},
                            {"type": "input_image", "image_url": DATA_URL},
                            {"sky": "blue"},
                        ],
                    }
                ],
                None,
            ),
        ],
        [
            CALL,
            (
                "call_1",
                [
                    {"type": "input_text", "text": "A map:"}, IMAGE, IMAGE,
                    {"type": "input_text", "text": '{"sky": "blue"}'},
                ],
            ),
        ],
    ),
    "MCP: an image of a result": Case(
        [
            assistant(call(at="sky")),
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_call_id": "call_1",
                        "output": [{"type": "image", "data": PNG, "mimeType": "image/png"}],
                    }
                ],
            },
        ],
        [CALL, ("call_1", [IMAGE])],
    ),
    "a list of a result without images": Case(
        [
            assistant(call(at="sky")),
            tool([{"type": "tool_result", "tool_call_id": "call_1", "output": [{"image_url": "https://there"}, 5]}]),
        ],
        [CALL, ("call_1", '[{"image_url": "https://there"}, 5]')],
    ),
    "Ollama: calls without ids": Case(
        [assistant(call("", at="sky"), call("", at="sea")), tool("sunny", ""), tool("calm", "")],
        [
            ("call_1_0", "look", {"at": "sky"}),
            ("call_1_1", "look", {"at": "sea"}),
            ("call_1_0", "sunny"),
            ("call_1_1", "calm"),
        ],
    ),
    "Ollama: calls without ids, stored twice": Case(
        [
            assistant(call("", at="sky"), tool_calls=[{"id": "", "tool": "look", "arguments": {"at": "sky"}}]),
            tool("sunny", None, name="look"),
        ],
        [("call_1_0", "look", {"at": "sky"}), ("call_1_0", "sunny")],
    ),
    "loops: a thought beside the content": Case(
        [{"role": "assistant", "content": "Hi", "thinking_block": thinking("Hm")}], [("thought", "Hm"), ("said", "Hi")]
    ),
    "OpenAI-compatible servers: reasoning content": Case(
        [{"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}], [("thought", "Hm"), ("said", "Hi")]
    ),
    "the calls of a reply": Case(
        [assistant(tool_calls=[ToolCall(id="call_1", name="look", arguments={"at": "sky"})]), tool()], [CALL, RESULT]
    ),
    "a call without an id, a result with one": Case(
        [assistant(tool_calls=[{"tool": "look", "arguments": {"at": "sky"}}]), tool("sunny", "call_9", name="look")],
        [("call_9", "look", {"at": "sky"}), ("call_9", "sunny")],
    ),
    "results without ids, paired by name": Case(
        [
            assistant(call("", "look"), call("", "listen")),
            tool("silent", None, name="listen"),
            tool("dark", None, name="look"),
        ],
        [("call_1_0", "look", {}), ("call_1_1", "listen", {}), ("call_1_1", "silent"), ("call_1_0", "dark")],
    ),
    "a result that lost the id of its call": Case(
        [assistant(call(at="sky")), tool("sunny", None)],
        [CALL, RESULT],
        ["a result has no tool_call_id: it is taken for the result of 'call_1'"],
    ),
    "a result of no call": Case(
        [tool("sunny", None, name="look")],
        [("user", "[Earlier result of look, whose call is no longer in the conversation]\nsunny")],
        ["a result of 'look' has no tool_call_id, and it is not clear which call it answers"],
    ),
    "one result without an id for two calls": Case(
        [assistant(call("call_1"), call("call_2")), tool("sunny", None), HELLO],
        [
            ("call_1", "look", {}),
            ("call_2", "look", {}),
            ("call_1", "[No result: the call was interrupted before the tool answered.]"),
            ("call_2", "[No result: the call was interrupted before the tool answered.]"),
            ("user", "[Earlier result of a tool, whose call is no longer in the conversation]\nsunny"),
            ("user", "Hello"),
        ],
        ["a result has no tool_call_id, and it is not clear which call it answers", "the history was repaired"],
    ),
    "a name of a user": Case(
        [{"role": "user", "content": "Hi", "name": "Ada"}],
        [("user", "Hi")],
        ["the name 'Ada' of a message is not sent"],
    ),
    "a system message between a call and its results": Case(
        [
            assistant(call("call_1"), call("call_2")),
            {"role": "system", "content": "Be brief."},
            tool("dark", "call_1"),
            {"role": "developer", "content": "notes.md"},
            tool("calm", "call_2"),
        ],
        [
            ("call_1", "look", {}),
            ("call_2", "look", {}),
            ("call_1", "dark"),
            (
                "call_2",
                "calm\n\n<system-reminder>\nBe brief.\n</system-reminder>\n\n<context_file>\nnotes.md\n</context_file>",
            ),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PEERS.values(), ids=PEERS)
async def test_nothing_of_a_stored_history_vanishes_silently(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    sent = await send([HELLO, *case.history], caplog, times=2)

    assert gist(sent.items) == case.sent
    assert len(sent.warnings) == len(case.warnings)
    assert all(expected in warning for expected, warning in zip(case.warnings, sent.warnings, strict=True))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (assistant(tool_calls=[{"id": "call_1"}]), r"no name of a tool: \{'id': 'call_1'\}"),
        (assistant(tool_calls=["look"]), "no name of a tool: 'look'"),
        ({"role": "user", "content": [{"type": "image", "source": {"file_id": "f_1"}}]}, "neither base64 nor url"),
        (
            assistant({"type": "image", "source": {"type": "url", "url": DATA_URL}}),
            "a 'image' block from the assistant",
        ),
    ],
    ids=["a call without a name", "a call that is a word", "an image in a provider's store", "an image of the model"],
)
async def test_what_cannot_be_sent_raises_with_the_reason(message: Stored, reason: str) -> None:
    request = ChatRequest(messages=[Message(**HELLO), Message(**message)])

    async with ReplayServer() as server, provider_session(server) as (_session, provider):
        with pytest.raises(InvalidRequestError, match=reason):
            await provider.complete(request)

    assert server.request_bodies == []


async def test_a_lost_result_is_announced_once_with_the_name_of_its_tool(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger=LOGGER)
    first = [HELLO, assistant(call("call_1"), tool_calls=[{"id": "call_1", "tool": "look", "arguments": {}}]), HELLO]
    second = [*first, assistant(call("call_2", "listen")), HELLO, tool("late", "call_3", name="smell")]

    async with ReplayServer(*[ANSWER] * 4) as server, provider_session(server) as (session, provider):
        for history in (first, first, second, second):
            await provider.complete(ChatRequest(messages=[Message(**message) for message in history]))

    events = session.payloads("provider:tool_sequence_repaired")
    assert [(event["unanswered_calls"], event["orphaned_results"], event["repair_count"]) for event in events] == [
        (["call_1"], [], 1),
        (["call_2"], ["call_3"], 2),
    ]
    assert [event["repairs"] for event in events] == [
        [{"tool_call_id": "call_1", "tool_name": "look"}],
        [{"tool_call_id": "call_2", "tool_name": "listen"}, {"tool_call_id": "call_3", "tool_name": "smell"}],
    ]
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "the history was repaired: no result for look (call_1)",
        "the history was repaired: no result for listen (call_2), no call for the result of smell (call_3)",
    ]
