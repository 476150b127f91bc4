"""Every part of the benchmark, except the one with a real server, runs on small inputs and receives what was sent."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from bench.__main__ import PAGE
from bench.contenders import SDK
from bench.conversation import conversation, response_items
from bench.recorded_chunks import QWEN, REPLY, scale_chat, scale_completions, with_prompt
from bench.recorded_stream import RECORDING, scale_recording
from bench.replay_server import received_bytes, start_replay_server
from bench.results import BEGIN, END, Results, with_results
from tests.support.recordings import load_recording


@pytest.mark.parametrize("part", ["streaming", "concurrency", "history", "figures"])
async def test_each_part_runs_and_writes_its_results(part: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", part, "--quick", "--into", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()

    found = json.loads((tmp_path / "results.json").read_text())
    assert process.returncode == 0
    assert found[part]
    assert b"| this provider, with a hook |" in output or part == "figures"


def test_scaling_to_the_recorded_length_returns_the_recording() -> None:
    body = load_recording(*RECORDING).body
    tokens = body.count(b".delta\ndata: ")

    stream = scale_recording(tokens)

    assert b"".join(stream.events) == body
    assert stream.tokens == tokens


def test_the_final_events_of_a_longer_stream_contain_the_joined_deltas() -> None:
    stream = scale_recording(5000)

    ending = json.loads(stream.events[-1].partition(b"\ndata: ")[2])
    reasoning, message = ending["response"]["output"]
    deltas = [json.loads(event.partition(b"\ndata: ")[2]) for event in stream.events if b".delta\ndata: " in event]
    assert stream.tokens == len(deltas) == 5000
    assert reasoning["content"][0]["text"] + message["content"][0]["text"] == "".join(one["delta"] for one in deltas)
    assert message["content"][0]["text"] == stream.answer


def test_scaling_chunks_to_the_recorded_length_returns_the_recording() -> None:
    body = load_recording(f"chat/{QWEN}", REPLY).body

    stream = scale_chat(22)

    assert b"".join(stream.events) == body
    assert stream.tokens == 22


def test_text_completions_send_the_tokens_of_the_chat_with_their_markup() -> None:
    chat, completions = scale_chat(5000), scale_completions(5000)

    reasoning, _, text = completions.raw.removeprefix("<think>").partition("</think>")
    assert (text, completions.tokens) == (chat.answer, chat.tokens)
    assert reasoning.startswith("\nThe user asks")
    assert _ids(completions.events) == _ids(chat.events)


def test_chunks_that_only_tell_of_a_token_are_not_sent_without_ids() -> None:
    with_ids, without = scale_chat(5000), scale_chat(5000, ids=False)

    assert len(with_ids.events) - len(without.events) == 2
    assert with_ids.answer == without.answer
    assert _ids(without.events) == []


def test_a_prompt_has_the_given_number_of_ids() -> None:
    first = with_prompt(scale_completions(1).events[0], 1000)

    (choice,) = json.loads(first.removeprefix(b"data: "))["choices"]
    assert len(choice["prompt_token_ids"]) == 1000


def test_a_one_token_reply_is_the_same_on_every_endpoint() -> None:
    replies = scale_recording(1), scale_chat(1), scale_chat(1, ids=False), scale_completions(1)

    assert {(reply.tokens, reply.answer) for reply in replies} == {(1, "The")}
    assert sum(b".delta\ndata: " in event for event in replies[0].events) == 1


def _ids(events: tuple[bytes, ...]) -> list[int]:
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events if not event.endswith(b"[DONE]\n\n")]
    return [one for chunk in chunks for one in chunk["choices"][0].get("token_ids") or ()]


@pytest.mark.parametrize("messages", [1, 8, 40])
def test_a_generated_history_has_the_given_length_ends_with_a_question_and_answers_every_call(messages: int) -> None:
    steps = conversation(messages)
    items = response_items(steps)

    calls = [item["call_id"] for item in items if item["type"] == "function_call"]
    assert len(steps) == messages
    assert items[-1]["role"] == "user"
    assert calls == [item["call_id"] for item in items if item["type"] == "function_call_output"]


def test_messages_are_padded_to_the_given_length() -> None:
    sizes = [len(json.dumps(response_items(conversation(40, characters)))) for characters in (0, 2_500, 25_000)]

    assert sizes[0] < 40 * 2_500 < sizes[1] < 40 * 25_000 < sizes[2]


async def test_the_server_reports_the_size_of_the_last_request() -> None:
    body = json.dumps(response_items(conversation(8)))

    with start_replay_server(1) as base_url:
        async with SDK.open(base_url, lambda _text: None, conversation(8)) as ask:
            await ask()
        sent = received_bytes(base_url)

    assert len(body) * 0.8 < sent < len(body) * 1.2


def test_every_image_in_the_document_exists() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", PAGE.read_text())

    assert [picture for picture in pictures if not (PAGE.parent / picture).exists()] == []
    assert pictures != []


def test_only_the_text_between_the_markers_is_replaced() -> None:
    page = f"# Title\n\n{BEGIN}old\n{END}\n\nMore.\n"

    written = with_results(page, Results({"Python": "3"}))

    assert written == f"# Title\n\n{BEGIN}Measured with Python 3.\n{END}\n\nMore.\n"
