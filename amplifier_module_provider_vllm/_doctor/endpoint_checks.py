"""Check which endpoints a server has, and that it has the one that a session would ask."""

import asyncio
from collections.abc import AsyncIterator, Sequence, Set
from typing import Final

from amplifier_core.llm_errors import LLMError

from .._config import Config
from .._constants import ANSWER_TIMEOUT
from .._options import CallOptions, listed
from .._paths import DETOKENIZE, ENDPOINT_PATHS, TOKENIZE, paths_of
from .._refusals import is_empty_not_found, is_missing_path
from .._server import Server
from .._wire.client import Transport
from .findings import Finding, fail, note, ok
from .question import question

PATHS: Final = (*ENDPOINT_PATHS.values(), TOKENIZE, DETOKENIZE)

GATEWAY: Final = "`base_url` (VLLM_BASE_URL) must name the `/v1` of a vLLM server; a gateway must pass these paths on"
CHOOSE_CHAT: Final = "set `endpoint: chat`: without it, every session asks /v1/responses first"
HAND_ON: Final = "let the gateway pass it on, or set `endpoint: chat`; a base model needs only `raw_prompt`"


async def check_endpoints(server: Server) -> AsyncIterator[Finding]:
    """What the server has, and what the endpoint that a session would ask needs beside it."""
    paths = await _served(server.transport)
    server.has_responses = ENDPOINT_PATHS["responses"] in paths
    options = (await question(server, "Hello.")).options
    yield _endpoints(paths, options, server.config)
    if options.endpoint == "completions" and ENDPOINT_PATHS["completions"] in paths and not options.raw_prompt:
        yield _rendering(paths, options)


def _endpoints(paths: Set[str], options: CallOptions, config: Config) -> Finding:
    asked = ENDPOINT_PATHS[options.endpoint]
    others = [path for path in ENDPOINT_PATHS.values() if path in paths and path != asked]
    if asked not in paths:
        return _missing(asked, others, config)
    if config.stated_endpoint is None and options.endpoint == "chat" and ENDPOINT_PATHS["responses"] not in paths:
        return note(
            "endpoints", f"a session asks {asked}: the server has no {ENDPOINT_PATHS['responses']}", CHOOSE_CHAT
        )
    beside = f"the server also has {listed(others)}" if others else "the server has no other"
    return ok("endpoints", f"a session asks {asked}; {beside}")


def _missing(asked: str, others: Sequence[str], config: Config) -> Finding:
    if not others:
        return fail("endpoints", f"the server has none of {listed([*ENDPOINT_PATHS.values()])}", GATEWAY)
    chosen = config.stated_endpoint is None and (config.echo or config.raw_prompt)
    there = " or ".join(f"`endpoint: {name}`" for name, path in ENDPOINT_PATHS.items() if path in others)
    remedy = "leave `echo` and `raw_prompt` out" if chosen else f"set {there}"
    return fail("endpoints", f"a session asks {asked}, which the server lacks; it has {listed(others)}", remedy)


def _rendering(paths: Set[str], options: CallOptions) -> Finding:
    """How a conversation becomes the token ids of a prompt, and the ids of a truncated reply its text."""
    by_chat = ENDPOINT_PATHS["chat"] in paths
    templated = options.family.rendering == "template"
    if not by_chat and not (templated and TOKENIZE in paths):
        renderers = f"{TOKENIZE} or {ENDPOINT_PATHS['chat']}" if templated else ENDPOINT_PATHS["chat"]
        return fail("rendering", f"a conversation becomes a prompt by {renderers}, which the server lacks", HAND_ON)
    if not templated:
        return ok("rendering", f"a conversation becomes a prompt by {ENDPOINT_PATHS['chat']}")
    if TOKENIZE not in paths:
        message = f"the server has no {TOKENIZE}: each prompt costs a call of {ENDPOINT_PATHS['chat']} with one token"
        return note("rendering", message, HAND_ON)
    if DETOKENIZE not in paths:
        message = f"the server has no {DETOKENIZE}: a thought that the template opens is text, and truncated replies"
        return note("rendering", f"{message} are asked for again", HAND_ON)
    return ok("rendering", f"a conversation becomes a prompt by {TOKENIZE}")


async def _served(transport: Transport) -> Set[str]:
    """The paths that the server has, by its own description or by requests that fail without any work."""
    try:
        listed = paths_of(await transport.get_root("/openapi.json", ANSWER_TIMEOUT))
    except LLMError:
        listed = None
    if listed is not None:
        return listed
    lacking = await asyncio.gather(*(_lacks(transport, path) for path in PATHS))
    return {path for path, lacks in zip(PATHS, lacking, strict=True) if not lacks}


async def _lacks(transport: Transport, path: str) -> bool:
    """Whether a server has no such path. It refuses an empty body where it has it."""
    try:
        await transport.post(path, {}, ANSWER_TIMEOUT)
    except LLMError as error:
        return is_missing_path(error) or is_empty_not_found(error)
    return False
