"""How much of each prompt of a growing tool turn a real vLLM finds in its prefix cache.

`python -m bench.prefix_cache` shows it for the two places where a session's reminders can go: attached to the end of
the history, as this provider does, or hoisted into `instructions`.
"""

import asyncio
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from urllib.parse import urljoin

import openai
from amplifier_core.llm_errors import ProviderUnavailableError
from amplifier_core.message_models import ChatRequest, Message, TextBlock, ThinkingBlock, ToolCallBlock, ToolSpec

from amplifier_module_provider_vllm import VLLMProvider
from tests.rig.launch import Launch
from tests.rig.prompts import RENDERING, Wire
from tests.rig.server import serve_launches

STEPS = 10
LINES_OF_A_RESULT = 40
TOKENS_OF_A_REPLY = 4

RETAINING = (*RENDERING, "--prefix-cache-retention-interval", "128")
"""Without it vLLM 0.32 keeps, of the layers of gpt-oss that see a sliding window, only the end of each prompt: there
the reminder stands, which no later prompt has, and so the prompt before the last is as far as the cache reaches."""

SERVERS = (
    Launch("tiny-qwen3", extra_flags=RENDERING),
    Launch("tiny-gpt-oss", extra_flags=RENDERING),
    Launch("tiny-gpt-oss", extra_flags=RETAINING),
)

SYSTEM = "\n".join(f"{n}. A careful assistant reads part {n} before it says what is in part {n}." for n in range(1, 13))

Placement = Callable[[list[Message]], list[Message]]


@dataclass(frozen=True)
class Step:
    """One request of the turn. All numbers are tokens."""

    prompt: int
    possible: int
    """The most that the server could have cached: the prefix shared with the previous request, in full blocks."""
    cached: int
    """The tokens that it had cached."""
    text: str = field(repr=False)
    """The prompt as the model read it."""


def attach_reminder(messages: list[Message]) -> list[Message]:
    """The reminder at the end of the history, as a session passes it."""
    return messages


def hoist_reminder(messages: list[Message]) -> list[Message]:
    """The reminder among the leading system messages, which become `instructions`."""
    return sorted(messages, key=lambda message: message.role != "system")


def reasoning_of(step: int) -> str:
    """The reasoning before the call of this step; it must stay in the prompt for the rest of the turn."""
    return f"Part {step} of the report is still missing, so I read it next."


async def measure(base_url: str, placement: Placement, steps: int = STEPS) -> list[Step]:
    """A tool turn of so many steps, its reminder another one in every request. The server must have `RENDERING`."""
    wire = Wire(base_url)
    # A unique salt excludes cache entries of other runs.
    config = {"use_streaming": False, "max_retries": 0, "extra_request_params": {"cache_salt": uuid.uuid4().hex}}
    async with wire.client as client:
        provider = VLLMProvider(client=client, config=config)
        block = await _block_size(client)
        measured: list[Step] = []
        before: list[int] = []
        for step in range(steps):
            # Only the prompt matters here: a tiny model may give empty replies to untrained prompts.
            with suppress(ProviderUnavailableError):
                await provider.complete(_request(placement(_history(step))), max_output_tokens=TOKENS_OF_A_REPLY)
            prompt, usage = await wire.tokens(wire.request_bodies[-1]), wire.reply_bodies[-1]["usage"]
            assert usage["input_tokens"] == len(prompt), "the compared tokens differ from the model's prompt"
            possible = _shared_length(before, prompt) // block * block
            text = await wire.text(wire.request_bodies[-1]["model"], prompt)
            measured.append(Step(len(prompt), possible, usage["input_tokens_details"]["cached_tokens"], text))
            before = prompt
        return measured


def _request(messages: list[Message]) -> ChatRequest:
    read = ToolSpec(
        name="read_part",
        description="Read one part of the report.",
        parameters={"type": "object", "properties": {"part": {"type": "integer"}}, "required": ["part"]},
    )
    return ChatRequest(messages=messages, tools=[read])


def _history(steps: int) -> list[Message]:
    """The turn after so many calls, the reminder of this request behind it."""
    start = [
        Message(role="system", content=SYSTEM),
        Message(role="user", content="Read every part of the report and tell me what is in it."),
    ]
    done = [message for step in range(1, steps + 1) for message in _step(step)]
    return [*start, *done, Message(role="system", content=f"Reminder: {steps} of {STEPS} parts are read.")]


def _step(step: int) -> list[Message]:
    call = ToolCallBlock(id=f"call_{step}", name="read_part", input={"part": step})
    text = " ".join(f"Line {step * 100 + line}" for line in range(LINES_OF_A_RESULT))
    return [
        Message(role="assistant", content=[ThinkingBlock(thinking=reasoning_of(step)), call]),
        Message(role="tool", name="read_part", tool_call_id=call.id, content=[TextBlock(text=text)]),
    ]


def _shared_length(before: Sequence[int], now: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False)))


async def _block_size(client: openai.AsyncOpenAI) -> int:
    text = await client.get(urljoin(str(client.base_url), "/metrics"), cast_to=str)
    found = re.search(r'[{,]block_size="(\d+)"', text)
    assert found is not None, "the server does not report its cache block size"
    return int(found.group(1))


def _table(title: str, ours: Sequence[Step], theirs: Sequence[Step]) -> str:
    lines = [
        f"{title}: prompt tokens found in the cache",
        f"{'':>6} {'attach_reminder (ours)':^27} {'hoist_reminder':^27}",
    ]
    lines.append(f"{'step':>6} " + " ".join([f"{'prompt':>8} {'possible':>9} {'cached':>8}"] * 2))
    for number, pair in enumerate(zip(ours, theirs, strict=True), 1):
        lines.append(f"{number:>6} " + " ".join(f"{s.prompt:>8} {s.possible:>9} {s.cached:>8}" for s in pair))
    lines.append(f"{'total':>6} " + " ".join(_total(steps) for steps in (ours, theirs)))
    return "\n".join(lines)


def _total(steps: Sequence[Step]) -> str:
    prompt = sum(step.prompt for step in steps)
    possible, cached = (sum(counts) for counts in ([s.possible for s in steps], [s.cached for s in steps]))
    return f"{prompt:>8} {possible / prompt:>9.0%} {cached / prompt:>8.0%}"


async def _compare(base_url: str) -> tuple[list[Step], list[Step]]:
    return await measure(base_url, attach_reminder), await measure(base_url, hoist_reminder)


def main() -> None:
    with serve_launches(SERVERS) as servers:
        for launch, server in zip(SERVERS, servers, strict=True):
            title = " ".join([launch.model, *launch.extra_flags])
            print(_table(title, *asyncio.run(_compare(server.base_url))), end="\n\n")


if __name__ == "__main__":
    main()
