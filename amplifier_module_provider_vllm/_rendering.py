"""Render a conversation as token ids with the server's own template, for a round at /v1/completions.

On vLLM 0.32 `/tokenize` gives the ids of every model with a chat template. A chat call of one token gives them for any
model; for gpt-oss only it uses Harmony.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from amplifier_core.llm_errors import AuthenticationError, ConfigurationError, InvalidRequestError, NotFoundError
from amplifier_core.message_models import Degradation

from ._ask import Ask, TokenPrompt
from ._constants import PROVIDER
from ._endpoints import encode, fitted
from ._errors import closed
from ._paths import DETOKENIZE, ENDPOINT_PATHS, TOKENIZE
from ._refusals import is_missing_path
from ._server import Server
from ._strict_json import Json
from ._tokenize import tokenize_body

TAIL: Final = 6
"""The ids at the end of a prompt that are searched for an open thought: few, so that prompts share them."""

MOST_ENDS: Final = 100
"""Ends of prompts that are remembered: some templates end with words of the conversation."""

OPENED: Final = re.compile(r"<think>\s*\Z")
"""The end of a prompt whose template begins the reply's reasoning (DeepSeek R1, QwQ, Qwen3 Thinking)."""

NO_TEMPLATE: Final = re.compile(r"chat template is no longer allowed|chat[_ ]template is not set", re.IGNORECASE)
"""The refusal of a model without a chat template, by vLLM and by transformers."""

UNAVAILABLE: Final = (NotFoundError, InvalidRequestError, AuthenticationError)
"""How servers, and gateways before them, refuse a path that they have not or do not open."""

ABOUT_REPLIES: Final = {"min_tokens", "n"}
"""Fields of the body with which a reply of one token may be refused, or is more than one."""

NO_IDS: Final = (
    "the server gives the token ids of a conversation neither at /tokenize nor at /v1/chat/completions: set"
    " `endpoint: chat`, or `raw_prompt: true`"
)


async def rendered(server: Server, ask: Ask) -> Ask:
    """The request with its prompt as token ids, unless it is raw, and with a cap. Raises `LLMError`."""
    if ask.tokens is None and not ask.options.raw_prompt:
        ids = tuple(await _prompt_ids(server, ask))
        ask = replace(ask, tokens=await _read(server, ask, TokenPrompt(ids)))
    return ask if ask.options.max_output_tokens is not None else await _with_cap(server, ask)


async def with_reply_text(server: Server, ask: Ask) -> Ask:
    """The request with all that the parser of its reply has to know of the prompt and of the reply so far."""
    return ask if ask.tokens is None else replace(ask, tokens=await _read(server, ask, ask.tokens))


def without_template(ask: Ask, error: InvalidRequestError) -> Ask | None:
    """The request as a raw prompt, if it was refused because the model has no chat template; else None."""
    if ask.options.endpoint != "completions" or ask.options.raw_prompt or not NO_TEMPLATE.search(str(error)):
        return None
    lost = Degradation(requested="the model's chat template", actual="a raw prompt", reason=str(error))
    options = replace(ask.options, raw_prompt=True)
    return fitted(replace(ask, options=options, degradations=(*ask.degradations, lost)))


async def tokenized(server: Server, ask: Ask, *, ends_here: bool = False) -> Sequence[int]:
    """The ids of a conversation by the server's template, at `/tokenize` alone. Raises `LLMError`.

    `ends_here`: without the start of the next reply.
    """
    body = tokenize_body(ask) | ({"add_generation_prompt": False} if ends_here else {})
    return _ids(await _post(server, ask, TOKENIZE, body), "tokens") or ()


async def _prompt_ids(server: Server, ask: Ask) -> Sequence[int]:
    ask = replace(ask, reply=())
    if ask.options.family.rendering == "template" and server.tokenizes:
        try:
            ids = _ids(await _post(server, ask, TOKENIZE, tokenize_body(ask)), "tokens")
        except UNAVAILABLE as error:
            if NO_TEMPLATE.search(str(error)):
                raise
            server.tokenizes = not is_missing_path(error)
            ids = None
        if ids is not None:
            return ids
    return await _ids_by_chat(server, ask)


async def _ids_by_chat(server: Server, ask: Ask) -> Sequence[int]:
    """The prompt of a chat call that samples one token. It is in the server's prefix cache from then on."""
    extra = {key: value for key, value in ask.options.extra_body.items() if key not in ABOUT_REPLIES}
    options = replace(ask.options, endpoint="chat", stream=False, stop=None, logprobs=None, token_ids=False)
    options = replace(options, max_output_tokens=1, extra_body=extra)
    body = encode(replace(ask, options=options, wants_tokens=True))
    try:
        ids = _ids(await _post(server, ask, ENDPOINT_PATHS["chat"], body), "prompt_token_ids")
    except (NotFoundError, InvalidRequestError) as error:
        if not is_missing_path(error):
            raise
        raise ConfigurationError(NO_IDS, provider=PROVIDER, model=ask.options.model) from error
    if ids is None:
        raise ConfigurationError(NO_IDS, provider=PROVIDER, model=ask.options.model)
    return ids


async def _read(server: Server, ask: Ask, tokens: TokenPrompt) -> TokenPrompt:
    """The prompt with what a template's markup is read from; Harmony is read from ids."""
    raw = ask.options.raw_prompt
    if ask.options.family.rendering == "harmony" and not raw:
        return tokens
    if tokens.in_reasoning is None and not raw:
        tokens = replace(tokens, in_reasoning=await _opens_a_thought(server, ask, tokens.ids))
    if tokens.reply_text is None:
        # The reply may end inside a character, which comes whole with the rest of its bytes.
        text = await _text_of(server, ask, tokens.reply)
        tokens = replace(tokens, reply_text=text.rstrip("\ufffd"))
    return tokens


async def _opens_a_thought(server: Server, ask: Ask, ids: Sequence[int]) -> bool:
    """Whether a prompt ends in an open thought; False if the server cannot say."""
    end = ask.options.model, tuple(ids[-TAIL:])
    if end not in server.open_thoughts:
        try:
            text = await _text_of(server, ask, end[1])
        except UNAVAILABLE:
            text = ""
        if len(server.open_thoughts) >= MOST_ENDS:
            server.open_thoughts.clear()
        server.open_thoughts[end] = OPENED.search(text) is not None
    return server.open_thoughts[end]


async def _text_of(server: Server, ask: Ask, ids: Sequence[int]) -> str:
    body = {"model": ask.options.model, "tokens": [*ids]}
    match await _post(server, ask, DETOKENIZE, body):
        case {"prompt": str(text)}:
            return text
        case _:
            message = f"{DETOKENIZE} gave no text of the reply's token ids"
            raise InvalidRequestError(message, provider=PROVIDER, model=ask.options.model)


async def _with_cap(server: Server, ask: Ask) -> Ask:
    """The request with a cap for a window that the server has not told: without one, vLLM sends 16 tokens."""
    model = ask.options.model
    try:
        answer = await _post(server, ask, TOKENIZE, {"model": model, "prompt": "."})
    except UNAVAILABLE:
        answer = None
    match answer:
        case {"max_model_len": int(window)} if window > 0:
            server.learn_window(model, window)
        case _:
            pass
    cap = server.limits(model).largest_reply
    return replace(ask, options=replace(ask.options, max_output_tokens=cap))


async def _post(server: Server, ask: Ask, path: str, body: Mapping[str, object]) -> Json:
    """The answer at a path. Raises `LLMError`, also if the provider is closed meanwhile: another request reopens it."""
    options, wait = ask.options, server.config.stream_idle_timeout
    transport = server.tokenizer if path in (TOKENIZE, DETOKENIZE) else server.transport
    closed_before = transport.times_closed
    headers = options.extra_headers if transport is server.transport else {}  # they may hold this server's keys
    answer = await transport.post(path, body, wait, model=options.model, headers=headers)
    if transport.times_closed != closed_before:
        raise closed(options.model)
    return answer


def _ids(answer: Json, key: str) -> list[int] | None:
    """The ids of an answer; None if it has none, or odd ones."""
    ids = answer.get(key) if isinstance(answer, Mapping) else None
    numbers = [number for number in ids if isinstance(number, int)] if isinstance(ids, list) else []
    return numbers if numbers and numbers == ids else None
