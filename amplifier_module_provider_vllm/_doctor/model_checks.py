"""Check a model and its server with the requests that a session sends."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from amplifier_core.llm_errors import LLMError, NotFoundError
from amplifier_core.message_models import Message, ResponseFormatJsonSchema, ToolSpec

from .._config import Config
from .._harmony.vocabulary import CHECKSUMS, FOLDER_VARIABLE, Vocabulary
from .._limits import Limits
from .._markup.recovery import Recovery, recover_calls
from .._server import Server
from .._strict_json import read_json
from .._turn import FunctionCall, Reasoning
from .endpoint_checks import check_endpoints
from .findings import CHOOSE_MODEL, LONGER_WINDOW, WITHOUT_GATEWAY, Finding, Outcome, fail, note, ok, remedy_for
from .gateway_checks import (
    check_continuation,
    check_exact_continuation,
    check_parameters,
    check_store,
    check_stored_turns,
)
from .parsers import Parsers, parsers_of, reasoning_flag, tool_flags
from .question import MAX_TOKENS, Answer, ask
from .token_checks import check_tokens

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

THINKING_TAGS = re.compile(r"</?think(?:ing)?>|\[/?THINK\]|</?seed:think>|◁/?think▷|<\|START_THINKING\|>")
"""How models mark reasoning in their text; a reasoning parser removes these tags."""

SCHEMA_REMEDY = "correct the findings above first; small models may fail under a schema: try another model"
CHOOSE_WINDOW = "set `context_window` (VLLM_CONTEXT_WINDOW) to the model's window"

WITHOUT_EFFECT = "leave it out, or set `endpoint: responses`"
WITHOUT_STATE = f"a gateway drops the others: leave `enable_state` out, or {WITHOUT_GATEWAY}"

COMPACTION_RESERVE, COMPACTION_NOTICE = 4_096, 800
"""Tokens. context-simple compacts at the window less half of the output, this reserve and a notice."""

BURST = 0.05
"""Seconds; a reply that arrives within them was not streamed, and does not tell the server's speed."""


async def check_model(server: Server, config: Config) -> AsyncIterator[Finding]:
    """The endpoints and a round trip, then tools, formats, counts, cache and state. Ends if one of the first two fails.

    `config` is the user's; the server's own is without retries and state.
    """
    try:
        model = await server.model(server.config.default_model)
        async for finding in check_endpoints(server):
            yield finding
            if finding.outcome is Outcome.FAIL:
                return
        answer = await ask(server, "What is the capital of France?")
    except LLMError as error:
        yield _no_reply(server, error)
        return
    if server.cards and model not in [card.id for card in server.cards]:
        yield note("model", f"{model} answers, but is not listed: its limits are unknown", CHOOSE_WINDOW)
    parsers = replace(parsers_of(model, server.cards), unused=answer.endpoint.name == "completions")
    yield _round_trip(answer)
    yield _reasoning(answer, parsers)
    yield await _run_check("tool call", _tool_call(server, parsers), fail)
    yield await _run_check("parallel calls", _parallel_calls(server, store=config.enable_state), note)
    yield await _run_check("json schema", _json_schema(server), note)
    yield _usage(answer)
    yield _history(server.limits(model), config)
    if config.wants_tokens:
        yield await _run_check("token ids", check_tokens(server, config), fail)
    yield await _run_check("prefix cache", _prefix_cache(server), note)
    async for finding in _check_state(server, config, answer):
        yield finding


async def _check_state(server: Server, config: Config, answer: Answer) -> AsyncIterator[Finding]:
    """What else a session relies on: continuation, its parameters, stored replies, and the vocabulary of gpt-oss."""
    by_items = answer.endpoint.name == "responses"
    if config.max_continuations and not by_items:
        yield await _run_check("continuation", check_exact_continuation(server), note)
    elif config.max_continuations and answer.family.continues_text:
        yield await _run_check("continuation", check_continuation(server, store=config.enable_state), note)
    yield await _run_check("parameters", check_parameters(server, config), note)
    if config.enable_state and not answer.endpoint.keeps_replies:
        yield note("store", "`enable_state` has no effect: only /v1/responses keeps replies", WITHOUT_EFFECT)
    elif config.enable_state:
        store = await _run_check("store", check_store(server), fail)
        yield store
        if store.outcome is Outcome.OK:
            yield await check_stored_turns(server, WEATHER)
    if answer.family.rendering == "harmony":
        needed = "replies that come without token counts" if by_items else "replies that are read from token ids"
        yield await check_vocabulary(server.vocabulary, needed)


def _no_reply(server: Server, error: LLMError) -> Finding:
    served = [card.id for card in server.cards]
    model = server.config.default_model
    match error:
        case NotFoundError() if model is not None and served and model not in served:
            return fail("model", str(error), CHOOSE_MODEL)
        case NotFoundError():
            remedy = "a gateway must pass this path on; or set `endpoint` to another"
        case _:
            remedy = remedy_for(error)
    return fail("round trip", f"{type(error).__name__}: {error}", remedy)


def _round_trip(answer: Answer) -> Finding:
    usage, first = answer.turn.usage, answer.seconds_to_first
    tokens = f"{usage.output_tokens} tokens" if usage is not None and usage.output_tokens else "the reply"
    if first is None or answer.seconds - first < BURST or usage is None:
        return ok("round trip", f"{tokens} after {answer.seconds:.2f} s")
    speed = usage.output_tokens / (answer.seconds - first)
    return ok("round trip", f"first token after {first:.2f} s, then {speed:,.0f} tokens/s")


def _reasoning(answer: Answer, parsers: Parsers) -> Finding:
    if THINKING_TAGS.search(answer.text):
        return fail("reasoning", "the model's reasoning arrives as text", reasoning_flag(parsers))
    if not any(isinstance(item, Reasoning) for item in answer.turn.items):
        return note("reasoning", "none: the model did not reason, or does not mark its reasoning")
    if answer.turn.truncated:
        return ok("reasoning", f"arrives as reasoning; cut off at {MAX_TOKENS} tokens")
    if not answer.text:
        remedy = f"leave it out for a model that does not reason, else {reasoning_flag(parsers)}"
        return fail("reasoning", "the whole answer arrives as reasoning: the `--reasoning-parser` is wrong", remedy)
    return ok("reasoning", "arrives as reasoning")


async def _tool_call(server: Server, parsers: Parsers) -> Finding:
    flags = tool_flags(parsers)
    try:
        answer = await ask(server, "What is the weather in Paris?", tools=[WEATHER])
    except LLMError as error:
        if "--enable-auto-tool-choice" in str(error):
            return fail("tool call", str(error), flags)
        raise
    if answer.turn.calls:
        call = answer.turn.calls[0]
        shown = f"{call.name}({call.arguments})"
        if _is_valid(call):
            return ok("tool call", shown)
        return fail("tool call", f"{shown} is not a valid call of the tool", flags)
    if recover_calls(answer.turn, [WEATHER.name], answer.family).warning is not None:
        return fail("tool call", "the model's calls arrive as text", flags)
    message = f"the model did not call the tool it was offered; it answered {answer.excerpt}"
    return note("tool call", message, f"if that should have been a call, {flags}")


def _is_valid(call: FunctionCall) -> bool:
    try:
        arguments = read_json(call.arguments)
    except ValueError:
        return False
    return call.name == WEATHER.name and isinstance(arguments, dict)


async def _parallel_calls(server: Server, *, store: bool) -> Finding:
    answer, found = await _ask_for_two_calls(server, store=store)
    calls = len(found.turn.calls)
    if calls > 1:
        origin = ", recovered from the text" if found.warning is not None else ""
        return ok("parallel calls", f"{calls} calls in one turn{origin}")
    unstored = len((await _ask_for_two_calls(server, store=False))[1].turn.calls) if store else calls
    if unstored > calls:
        message = f"{unstored} calls in one turn without `enable_state`, {calls} with it"
        return note("parallel calls", message, WITHOUT_STATE)
    if calls:
        return note("parallel calls", "the model calls one tool at a time")
    return note("parallel calls", f"the model called no tool; it answered {answer.excerpt}")


async def _ask_for_two_calls(server: Server, *, store: bool) -> tuple[Answer, Recovery]:
    answer = await ask(server, "Compare the weather in Paris and London.", tools=[WEATHER], store=store)
    return answer, recover_calls(answer.turn, [WEATHER.name], answer.family)


async def _json_schema(server: Server) -> Finding:
    answer = await ask(server, "Give me a city as JSON.", response_format=ResponseFormatJsonSchema(json_schema=CITY))
    try:
        reply = read_json(answer.text)
    except ValueError:
        reply = None
    if isinstance(reply, dict) and reply.keys() == CITY["properties"].keys():
        return ok("json schema", "the reply matches the schema")
    cut = " and was cut off" if answer.turn.truncated else ""
    return note("json schema", f"the reply does not match the schema{cut}: {answer.excerpt}", SCHEMA_REMEDY)


def _usage(answer: Answer) -> Finding:
    usage = answer.turn.usage
    if usage is None or usage.input_tokens == 0:
        return note("usage", "the server counts no tokens; for gpt-oss the provider estimates them", "update vLLM")
    return ok("usage", f"{usage.input_tokens} tokens in, {usage.output_tokens} out")


def _history(limits: Limits, config: Config) -> Finding:
    """What Amplifier's `context-simple` keeps of a session, by the limits that the provider tells it."""
    window, output = limits.context_window, limits.max_output_tokens
    room = window - output // 2 - COMPACTION_RESERVE
    if not limits.from_server and config.context_window is None:
        return note("history", f"the window is unknown; {window:,} tokens are assumed", CHOOSE_WINDOW)
    if room <= COMPACTION_NOTICE:
        message = f"{window:,} tokens are too few for context-simple: it keeps everything until the window is full"
        return note("history", message, "raise `context_window`" if config.context_window == window else LONGER_WINDOW)
    kept = room - COMPACTION_NOTICE
    return ok("history", f"a session keeps about {kept:,} of {window:,} tokens, {output:,} are left for a reply")


async def _prefix_cache(server: Server) -> Finding:
    prompt = [Message(role="system", content=LONG_PROMPT)]
    await ask(server, "What is the capital of France?", history=prompt)
    usage = (await ask(server, "What is the capital of Japan?", history=prompt)).turn.usage
    if usage is not None and usage.cached_tokens:
        return ok("prefix cache", f"{usage.cached_tokens} of {usage.input_tokens} tokens cached on the second call")
    remedy = "start vLLM without `--no-enable-prefix-caching`; behind a gateway, let a session always ask the same vLLM"
    return note("prefix cache", "no tokens cached on the second call", remedy)


async def check_vocabulary(vocabulary: Vocabulary, needed: str) -> Finding:
    """Only looks where a session would look: a session downloads it when it needs it. `needed`: what for."""
    if await asyncio.to_thread(vocabulary.load) is not None:
        return ok("vocabulary", f"found, for {needed}")
    message = f"not found; downloaded for {needed}"
    files = " and ".join(CHECKSUMS)
    return note("vocabulary", message, f"without internet: put {files} into a folder, and name it in {FOLDER_VARIABLE}")


async def _run_check(check: str, question: Awaitable[Finding], outcome: Callable[[str, str, str], Finding]) -> Finding:
    """The finding, or the error as one: a check that fails does not end the others."""
    try:
        return await question
    except LLMError as error:
        return outcome(check, f"{type(error).__name__}: {error}", remedy_for(error))
