"""A provider's costs besides streaming: import, encoding of a history, memory, first event."""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from amplifier_core.message_models import ChatResponse

from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._response_handling import to_response
from amplifier_module_provider_vllm._responses.events import decode_reply
from amplifier_module_provider_vllm._responses.fold import ResponsesFold
from bench.contenders import FLOOR, OURS, SDK, find_contender
from bench.conversation import amplifier_messages, conversation
from bench.isolated import BrokenRunError, run_isolated
from bench.replay_server import start_replay_server
from tests.support.requests import encode_messages

IMPORTED_ANYWAY = "import openai, amplifier_core, amplifier_core.message_models, amplifier_core.llm_errors"

# macOS counts in bytes what Linux counts in KiB.
KIB_PER_MAXRSS = 1 / 1024 if sys.platform == "darwin" else 1.0


@dataclass(frozen=True)
class Figures:
    encode_1000_ms: float
    encode_2000_ms: float
    encode_4000_ms: float
    """Messages of a history into the items of a request."""
    convert_1000_items_ms: float
    """A whole reply, from its bytes to the ChatResponse."""
    import_ms: float
    """Beyond openai and amplifier_core."""
    first_text_ms: float
    first_text_of_sdk_ms: float
    first_text_of_raw_socket_ms: float
    """From the call, on an open connection if the contender keeps one."""
    kib_per_open_stream: float
    kib_grown_per_turn: float


def measure_figures(repetitions: int) -> Figures:
    with start_replay_server(50) as base_url:
        ours, sdk, raw = (run_isolated(_first_ms, one.name, base_url, 10 * repetitions) for one in (OURS, SDK, FLOOR))
        growth = run_isolated(_growth_kib, base_url, 200 * repetitions)
    with start_replay_server(200, 50.0) as base_url:
        memory = run_isolated(_memory_kib, base_url, 40 * repetitions)
    return Figures(*run_isolated(_pure_ms, repetitions), _import_ms(repetitions), ours, sdk, raw, memory, growth)


def reply_of(items: int) -> bytes:
    """An unstreamed reply with this number of output items: reasoning, text and calls in turn."""
    usage = {"input_tokens": 10, "output_tokens": items}
    output = [_item(n) for n in range(items)]
    return json.dumps({"id": "resp_1", "status": "completed", "output": output, "usage": usage}).encode()


def _item(n: int) -> dict[str, Any]:
    match n % 3:
        case 0:
            return {"type": "reasoning", "id": f"rs_{n}", "content": [{"type": "reasoning_text", "text": "Hm. " * 20}]}
        case 1:
            return {"type": "message", "id": f"msg_{n}", "content": [{"type": "output_text", "text": "So. " * 20}]}
        case _:
            arguments = json.dumps({"city": "Paris", "day": n})
            return {"type": "function_call", "call_id": f"call_{n}", "name": "get_weather", "arguments": arguments}


def _pure_ms(repetitions: int) -> tuple[float, float, float, float]:
    """The parts that only compute, in the order of the figures."""
    short, middle, long = (
        _best_ms(repetitions, encode_messages, *amplifier_messages(conversation(count))) for count in (1000, 2000, 4000)
    )
    return short, middle, long, _best_ms(repetitions, _convert, reply_of(1000))


def _convert(body: bytes) -> None:
    fold = ResponsesFold(Blocks())
    list(fold.push_all([decode_reply(body)]))
    response = None if fold.turn is None else to_response(fold.turn, [], None)
    if not isinstance(response, ChatResponse) or len(response.content) != 1000:
        raise BrokenRunError("the reply with 1,000 items did not become 1,000 blocks")


def _best_ms(repetitions: int, function: Callable[..., object], *args: object) -> float:
    def once() -> float:
        began = time.process_time()
        function(*args)
        return time.process_time() - began

    return min(once() for _ in range(repetitions)) * 1000


def _import_ms(repetitions: int) -> float:
    program = (
        f"{IMPORTED_ANYWAY}\nimport time\nbegan = time.perf_counter()\nimport amplifier_module_provider_vllm\n"
        "print((time.perf_counter() - began) * 1000)"
    )
    command = [sys.executable, "-c", program]
    runs = (subprocess.run(command, capture_output=True, check=True) for _ in range(repetitions))  # noqa: S603
    return min(float(run.stdout) for run in runs)


def _first_ms(name: str, base_url: str, repetitions: int) -> float:
    return asyncio.run(_until_first(name, base_url, repetitions))


async def _until_first(name: str, base_url: str, repetitions: int) -> float:
    on_text, waits = list[float](), list[float]()
    async with find_contender(name).open(base_url, lambda _text: on_text.append(time.perf_counter())) as ask:
        for _ in range(repetitions + 1):
            on_text.clear()
            began = time.perf_counter()
            await ask()
            waits.append(on_text[0] - began)
    return median(waits[1:]) * 1000


def _growth_kib(base_url: str, turns: int) -> float:
    return asyncio.run(_memory_growth(base_url, turns))


async def _memory_growth(base_url: str, turns: int) -> float:
    """The growth of the process's peak memory per turn, after a warm-up."""
    async with OURS.open(base_url, lambda _text: None) as ask:
        for _ in range(turns // 5):
            await ask()
        before = _peak_kib()
        for _ in range(turns):
            await ask()
    return (_peak_kib() - before) / turns


def _memory_kib(base_url: str, streams: int) -> float:
    return asyncio.run(_memory_held(base_url, streams))


async def _memory_held(base_url: str, streams: int) -> float:
    async with OURS.open(base_url, lambda _text: None) as ask:
        await ask()
        before = _peak_kib()
        await asyncio.gather(*(ask() for _ in range(streams)))
    return (_peak_kib() - before) / streams


def _peak_kib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB_PER_MAXRSS
