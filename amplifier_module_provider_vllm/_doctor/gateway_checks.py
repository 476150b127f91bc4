"""Check what a gateway in front of vLLM may refuse or drop: truncated replies, parameters, stored conversations."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from amplifier_core.llm_errors import InvalidRequestError, LLMError, NotFoundError
from amplifier_core.message_models import Message, ThinkingBlock, ToolCallBlock, ToolSpec

from .._ask import StoredReply
from .._config import Config
from .._endpoints import encode
from .._server import Server
from .._stored_replies import keeps_calls
from .._turn import Text
from .findings import WITHOUT_GATEWAY, Finding, fail, note, ok
from .question import ask, question, send

FEW_TOKENS: Final = 16
"""Enough for a reply whose text does not matter."""

COUNT: Final = "Count from 1 to 20."

INVALID: Final[list[list[str]]] = [[]]
"""A value that vLLM accepts in no field: a server that answers it nonetheless has not read the field."""
USUAL_PARAMETERS: Final = ("stop", "seed", "top_k")

ENABLE_STORE = "start vLLM with VLLM_ENABLE_RESPONSES_API_STORE=1 in its environment, or leave `enable_state` out"
FALLBACK_REMEDY = "some replies are asked for again instead; see `vocabulary`"
WITHOUT_IDS = (
    "some replies are asked for again instead: raise `max_tokens`, so that fewer are truncated, and update vLLM (0.10.2"
    f" was the first that can), or {WITHOUT_GATEWAY}"
)
DROPPED = (
    f"a gateway drops them, or vLLM does not have them: check their spelling, leave them out, or {WITHOUT_GATEWAY}"
)


async def check_exact_continuation(server: Server) -> Finding:
    """A session sends the token ids of the prompt and of a truncated reply to `/v1/completions`."""
    continuing = replace(server, config=server.config.model_copy(update={"max_continuations": 1}))
    asked = await question(server, COUNT, max_tokens=FEW_TOKENS)
    asked = replace(asked, options=replace(asked.options, capped_by_caller=False))
    turn = (await send(continuing, asked)).turn
    if turn.tokens is not None and (len(turn.tokens.sampled) > FEW_TOKENS or not turn.truncated):
        return ok("continuation", "the server continues a truncated reply by its token ids")
    if asked.options.family.rendering == "harmony" and await server.vocabulary.encoding() is None:
        return note(
            "continuation", "not by token ids: they are read with the vocabulary, which is missing", FALLBACK_REMEDY
        )
    return note("continuation", "the server does not continue a truncated reply by its token ids", WITHOUT_IDS)


async def check_continuation(server: Server, *, store: bool) -> Finding:
    """A session sends the beginning of a truncated reply back, for the server to continue."""
    try:
        await ask(server, COUNT, reply=(Text("1, 2, 3"),), store=store, max_tokens=FEW_TOKENS)
    except InvalidRequestError as error:
        message = f"the server refuses to continue a truncated reply: {error}"
        return fail("continuation", message, f"raise `max_tokens`, so that fewer are truncated, or {WITHOUT_GATEWAY}")
    return ok("continuation", "the server continues a truncated reply")


async def check_parameters(server: Server, config: Config) -> Finding:
    """Whether the parameters that a session may send have an effect; with `enable_state` some gateways drop them."""
    named = dict.fromkeys([*USUAL_PARAMETERS, *config.extra_request_params])
    named.pop("tools", None)  # merged with the session's, not handed on
    own = await _own_keys(server, named)
    keys = [key for key in named if key not in own]
    ignored = [key for key in keys if not await _is_read(server, key, store=config.enable_state)]
    if ignored:
        return note("parameters", f"the server ignores {_listed(ignored)}", DROPPED)
    return ok("parameters", f"the server reads {_listed(keys)}")


async def check_store(server: Server) -> Finding:
    """Asked only for `enable_state`: LiteLLM takes a vLLM that knows no stored reply for broken, and shuts it out."""
    try:
        answer = await ask(server, "What is the capital of France?", store=True)
        # vLLM accepts `store: true` without a store: only a second request tells.
        response_id = answer.turn.response_id or ""
        await ask(server, "What is the capital of Japan?", store=True, stored=StoredReply(response_id, items=0))
    except (NotFoundError, InvalidRequestError):
        return fail("store", "off: the server stores no replies, but `enable_state` needs them", ENABLE_STORE)
    if keeps_calls(answer.family, response_id):
        return ok("store", "on, and used")
    return ok("store", "on, and used; turns with tool calls are sent in full: vLLM does not store the calls")


async def check_stored_turns(server: Server, tool: ToolSpec) -> Finding:
    """Some gateways cannot store the same history twice."""
    arguments = {"city": "Paris"}
    history = [
        Message(role="user", content="What is the weather in Paris?"),
        Message(
            role="assistant",
            content=[
                ThinkingBlock(thinking="I should look up the weather."),
                ToolCallBlock(id="call_doctor", name=tool.name, input=arguments),
            ],
        ),
        Message(role="tool", tool_call_id="call_doctor", content="sunny, 21 C"),
    ]
    try:
        for _ in range(2):
            await ask(server, "And what should I wear?", history=history, tools=[tool], store=True)
    except LLMError as error:
        message = f"the server cannot store a conversation with tools: {type(error).__name__}: {error}"
        return fail("stored turns", message, f"leave `enable_state` out, or {WITHOUT_GATEWAY}")
    return ok("stored turns", "a conversation with tools is stored, twice")


async def _own_keys(server: Server, keys: Iterable[str]) -> list[str]:
    """The keys that the provider sets itself, whatever the config's `extra_request_params` say."""
    body = encode(await question(server, "Hello.", parameters=dict.fromkeys(keys, INVALID)))
    return [key for key, value in body.items() if value != INVALID]


async def _is_read(server: Server, key: str, *, store: bool) -> bool:
    try:
        await ask(server, "Hello.", parameters={key: INVALID}, store=store, max_tokens=FEW_TOKENS)
    except InvalidRequestError:
        return True
    return False


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
