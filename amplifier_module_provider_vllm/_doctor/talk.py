"""Check what a model and its server do with what a session asks of them."""

import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from amplifier_core.llm_errors import LLMError, NotFoundError
from amplifier_core.message_models import ChatRequest, Message, ResponseFormatJsonSchema, ToolSpec

from .._limits import pick_model
from .._observability import ObservedCall, described
from .._options import decide_options
from .._responses.encode import encode_request
from .._rounds import Rounds
from .._server import Server
from .._tool_markup import TOOL_FLAGS, recover_calls
from .._turn import Reasoning, Text, Turn
from .findings import Finding, fail, note, ok

WEATHER = ToolSpec(
    name="get_weather",
    description="Get the weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CITY: dict[str, Any] = {
    "title": "city",
    "type": "object",
    "properties": {"city": {"type": "string"}, "population": {"type": "integer"}},
    "required": ["city", "population"],
    "additionalProperties": False,
}
LONG_PROMPT = "\n".join(f"{n}. Answers are short, true and polite." for n in range(1, 41))
"""Longer than a block of any server's prefix cache."""
MOST_TOKENS = 1024


@dataclass(slots=True)
class _Clock:
    """Stands where a session's hooks stand, and notes when the first of the reply was seen."""

    started: float = field(default_factory=time.monotonic)
    first: float | None = None

    async def emit(self, event: str, _data: dict[str, Any], /) -> None:
        if event == "llm:stream_block_delta" and self.first is None:
            self.first = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Heard:
    turn: Turn
    seconds: float
    seconds_to_first: float

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.turn.items if isinstance(item, Text))


async def talk(server: Server) -> AsyncIterator[Finding]:
    """A round trip, then tools, formats, counts, cache and store. Ends where not even the round trip works."""
    try:
        heard = await _ask(server, "What is the capital of France?")
    except NotFoundError as error:
        yield fail(
            "responses", str(error), "this needs `/v1/responses`: update vLLM, or point `base_url` at the server itself"
        )
        return
    except LLMError as error:
        yield fail("responses", f"{type(error).__name__}: {error}", "see the server's log")
        return
    yield ok("responses", "the server speaks /v1/responses")
    yield _round_trip(heard)
    yield _reasoning(heard)
    yield _usage(heard)
    for check in _CHECKS:
        yield await _guarded(check, server)


async def _ask(server: Server, text: str, system: str | None = None, **asked: Any) -> _Heard:
    overrides = asked.pop("overrides", {})
    messages = [Message(role="system", content=system)] if system else []
    request = ChatRequest(
        messages=[*messages, Message(role="user", content=text)], max_output_tokens=MOST_TOKENS, **asked
    )
    model = pick_model(server.config.default_model, server.cards, server.transport.url)
    options = decide_options(
        request,
        {"temperature": 0.0, **overrides},
        server.config,
        model=model,
        harmony=server.harmony(model),
        advertised_output=None,
    )
    params = encode_request(request.messages, request, options).params | overrides.get("params", {})
    clock = _Clock()
    call = ObservedCall(clock, server.config, described("doctor", server.transport.url))
    async with call:
        await call.requested(options, params)
        turn = await Rounds(server, call).reply(params, options)
    ended = time.monotonic()
    return _Heard(turn, ended - clock.started, (clock.first or ended) - clock.started)


def _round_trip(heard: _Heard) -> Finding:
    said = f"first token after {heard.seconds_to_first:.2f} s"
    if heard.turn.usage is None or heard.seconds <= heard.seconds_to_first:
        return ok("round trip", f"{said}, whole reply after {heard.seconds:.2f} s")
    speed = heard.turn.usage.output_tokens / (heard.seconds - heard.seconds_to_first)
    return ok("round trip", f"{said}, then {speed:.0f} tokens/s")


def _reasoning(heard: _Heard) -> Finding:
    if any(isinstance(item, Reasoning) for item in heard.turn.items):
        return ok("reasoning", "arrives as reasoning")
    if "<think>" in heard.text or "</think>" in heard.text:
        remedy = "start vLLM with the `--reasoning-parser` of the model (`qwen3` for Qwen3)"
        return fail("reasoning", "the model's reasoning arrives as text", remedy)
    return note("reasoning", "the model did not reason, or not where the server could tell")


def _usage(heard: _Heard) -> Finding:
    usage = heard.turn.usage
    if usage is None or usage.input_tokens == 0:
        return note("usage", "the server counts no tokens; for gpt-oss the provider estimates them", "update vLLM")
    return ok("usage", f"{usage.input_tokens} tokens in, {usage.output_tokens} out")


async def _tool_call(server: Server) -> Finding:
    heard = await _ask(server, "What is the weather in Paris?", tools=[WEATHER])
    if heard.turn.calls:
        call = heard.turn.calls[0]
        return ok("tool call", f"{call.name}({call.arguments})")
    if recover_calls(heard.turn, [WEATHER.name]).warning is not None:
        return fail("tool call", "the model's calls arrive as text", TOOL_FLAGS)
    return note("tool call", f"the model did not call the tool it was offered; it said {heard.text.strip()[:80]!r}")


async def _parallel_calls(server: Server) -> Finding:
    heard = await _ask(server, "Compare the weather in Paris and London.", tools=[WEATHER])
    turn = recover_calls(heard.turn, [WEATHER.name]).turn
    if len(turn.calls) > 1:
        return ok("parallel calls", f"{len(turn.calls)} calls in one turn")
    return note("parallel calls", "the model calls one tool at a time")


async def _json_schema(server: Server) -> Finding:
    heard = await _ask(server, "Give me a city as JSON.", response_format=ResponseFormatJsonSchema(json_schema=CITY))
    try:
        given = json.loads(heard.text)
    except ValueError:
        given = None
    if isinstance(given, dict) and given.keys() == CITY["properties"].keys():
        return ok("json schema", "the reply keeps to it")
    return note(
        "json schema", f"the reply does not keep to it: {heard.text.strip()[:80]!r}", "see vLLM's structured outputs"
    )


async def _prefix_cache(server: Server) -> Finding:
    await _ask(server, "What is the capital of France?", LONG_PROMPT)
    again = await _ask(server, "What is the capital of Japan?", LONG_PROMPT)
    usage = again.turn.usage
    if usage is not None and usage.cached_tokens:
        return ok("prefix cache", f"{usage.cached_tokens} of {usage.input_tokens} tokens found in it on a second call")
    remedy = "start vLLM without `--no-enable-prefix-caching`; to see the counts, with `--enable-prompt-tokens-details`"
    return note("prefix cache", "nothing was found in it on a second call", remedy)


async def _store(server: Server) -> Finding:
    wanted = server.config.enable_state
    heard = await _ask(server, "What is the capital of France?", overrides={"params": {"store": True}})
    try:
        previous = {"store": True, "previous_response_id": heard.turn.response_id}
        await _ask(server, "What is the capital of Japan?", overrides={"params": previous})
    except NotFoundError:
        if wanted:
            remedy = "start vLLM with VLLM_ENABLE_RESPONSES_API_STORE=1, or leave `enable_state` out"
            return fail("store", "the server keeps no replies, but `enable_state` is set", remedy)
        return ok("store", "off, and not asked for")
    return ok("store", "on" if wanted else "on; `enable_state: true` would use it")


_CHECKS: tuple[Callable[[Server], Coroutine[Any, Any, Finding]], ...] = (
    _tool_call,
    _parallel_calls,
    _json_schema,
    _prefix_cache,
    _store,
)


async def _guarded(check: Callable[[Server], Coroutine[Any, Any, Finding]], server: Server) -> Finding:
    try:
        return await check(server)
    except LLMError as error:
        name = check.__name__.strip("_").replace("_", " ")
        outcome = fail if check is _tool_call else note
        return outcome(name, f"{type(error).__name__}: {error}", "see the server's log")
