"""The demo, run as a user runs it, against recorded replies."""

import asyncio
import os
import re
import signal
import sys

import pytest

from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, reply

WEATHER = [
    "question   What is the weather in Paris?",
    "reasoning  I should look up the weather in Paris.",
    'tool call  get_weather(city="Paris")',
    "result     get_weather: sunny, 21 C",
    "reasoning  The tool says sunny and 21.",
    "answer     It is sunny and 21 degrees in Paris.",
]


async def demo(
    base_url: str, *arguments: str, stdout: int = asyncio.subprocess.PIPE, **environment: str
) -> tuple[int | None, str]:
    """The exit status and output of the demo; no output if `stdout` is given."""
    process = await start_demo(base_url, *arguments, stdout=stdout, **environment)
    written, _ = await process.communicate()
    return process.returncode, (written or b"").decode()


async def start_demo(base_url: str, *arguments: str, stdout: int, **environment: str) -> asyncio.subprocess.Process:
    """Start the demo without the environment variables of the tests."""
    ours = {name: value for name, value in os.environ.items() if name in {"HOME", "PATH"}}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.demo", *arguments),
        stdout=stdout,
        stderr=asyncio.subprocess.STDOUT,
        env=ours | {"VLLM_BASE_URL": base_url} | environment,
    )


async def test_without_a_terminal_it_prints_plain_lines() -> None:
    async with ReplayServer(
        load_recording("tiny-qwen3", "r2_tool_stream"), load_recording("tiny-qwen3", "r3_after_tool_stream")
    ) as server:
        status, written = await demo(server.base_url)

    *lines, figures = [line.rstrip() for line in written.splitlines()]
    assert (status, lines) == (0, WEATHER)
    assert re.fullmatch(r" +\d+ tokens in \(\d+ cached\), \d+ tokens out, \d+\.\d s", figures)
    assert "\x1b" not in written


async def test_the_model_and_the_question_can_be_chosen() -> None:
    async with ReplayServer(load_recording("tiny-gpt-oss", "r1_answer_stream")) as server:
        status, written = await demo(server.base_url, "What is the capital of France?", VLLM_MODEL="tiny-gpt-oss")

    assert status == 0
    assert "answer     The capital of France is Paris." in written
    assert [body["model"] for body in server.request_bodies] == ["tiny-gpt-oss"]


async def test_the_endpoint_can_be_chosen() -> None:
    async with ReplayServer(load_recording("chat/tiny-qwen3", "chat_answer_stream")) as server:
        status, written = await demo(server.base_url, "--endpoint", "chat", "What is the capital of France?")

    assert status == 0
    assert "answer     The capital of France is Paris." in written
    assert "/v1/chat/completions" in [request.path for request in server.requests]


@pytest.mark.parametrize(
    ("case", "message"),
    [(("tiny-qwen3", "unknown_model"), "tiny-qwen3"), (("tiny-qwen3-auth", "auth_wrong"), "Unauthorized")],
    ids=["unknown model", "wrong key"],
)
async def test_a_failure_is_one_line_without_a_traceback(case: tuple[str, str], message: str) -> None:
    async with ReplayServer(load_recording(*case)) as server:
        status, written = await demo(server.base_url, VLLM_MODEL="no-such")

    question, failure = written.splitlines()
    assert status == 1
    assert question == "question   What is the weather in Paris?"
    assert failure.startswith("failed     ")
    assert message in failure


async def test_ctrl_c_stops_it_in_the_middle_of_an_answer() -> None:
    silent = reply(load_recording("tiny-qwen3", "r5_long_whole_stream"), cut_at=10_000, ending="stall")

    async with ReplayServer(silent) as server:
        process = await start_demo(server.base_url, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        begun = await process.stdout.readuntil(b"answer     ")
        process.send_signal(signal.SIGINT)
        written, _ = await process.communicate()

    assert process.returncode == 130
    assert written.decode().splitlines()[1:] == ["stopped    interrupted from the keyboard"]
    assert b"Traceback" not in begun


async def test_on_a_terminal_the_answer_has_a_colour() -> None:
    ours, theirs = os.openpty()
    async with ReplayServer(load_recording("tiny-qwen3", "r1_answer_stream")) as server:
        status, _ = await demo(server.base_url, stdout=theirs, TERM="xterm-256color")
    os.close(theirs)

    assert status == 0
    assert "\x1b[32mThe capital" in os.read(ours, 65536).decode()
    os.close(ours)
