"""What a server's refusal is about: questions to an error, where its class does not say enough."""

import re

import openai
from amplifier_core.llm_errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    LLMError,
    NotFoundError,
)

from ._server_text import is_empty, is_page, server_failure

FORMAT_WORDS = ("grammar", "schema", "text.format", "structured", "json_object", "response_format")

NO_IMAGES = re.compile(r"not a multimodal model|not support (image|vision)|image input|images are not supported")
"""Phrases of a model or server that takes no images."""

MOST_IMAGES = re.compile(r"at most (\d+) (?:image|vision_chunk)")
"""vLLM's limit of images in one prompt (`--limit-mm-per-prompt`)."""

BAD_IMAGE = re.compile(
    r"(load|fetch|download|identify|open|decode)[a-z ]{0,40}image|image[a-z ]{0,20}(cannot|could not|failed)"
    r"|validation error[^{]{0,200}\{'type': 'input_image'"
)
"""Phrases for an image that the server cannot read."""

MISSING_PATH = re.compile(
    r"(?:file |path |route |page |resource )?not found\.?|404 page not found|404:? not found|no route\b.{0,200}"
    r"|(?:invalid url|cannot post|unknown (?:path|endpoint|route|request url)|no handler for)\b.{0,200}",
    re.IGNORECASE,
)
"""What servers say of a path that they do not have: FastAPI, llama.cpp, Go, Azure, OpenAI, Groq."""

NOT_BUILT = re.compile(
    r"not (?:yet )?(?:built|implemented|supported|available)\.?\Z|unsupported method|without a body", re.IGNORECASE
)
"""What servers say with status 501 of a path that they know and do not have."""


def is_about_format(error: InvalidRequestError) -> bool:
    """Whether a refusal is about `text.format`, such as a schema that the server's grammar does not support."""
    return error.status_code == 400 and any(word in str(error).lower() for word in FORMAT_WORDS)


def most_images(error: InvalidRequestError) -> int | None:
    """How many images the server takes in one request; None if the refusal does not say."""
    text = str(error).lower()
    limit = MOST_IMAGES.search(text)
    if limit is not None:
        return int(limit.group(1))
    return 0 if NO_IMAGES.search(text) else None


def leaves_no_room(error: InvalidRequestError) -> bool:
    """Whether a refusal of /v1/completions means that its prompt fills the window: it names our cap as 0."""
    return "max_tokens must be at least 1, got 0" in str(error)


def may_go_on_by_items(error: LLMError) -> bool:
    """Whether a reply that did not go on by its token ids may by its items: gateways have other paths than vLLM."""
    refusals = (InvalidRequestError, NotFoundError, AuthenticationError, ConfigurationError)
    return isinstance(error, refusals) or error.status_code == 500


def lacks_tool_parser(error: InvalidRequestError) -> bool:
    """Whether vLLM refuses tools at chat, because it was started without a parser for calls."""
    return "requires --enable-auto-tool-choice" in str(error)


def refuses_token_ids(error: InvalidRequestError) -> bool:
    """Whether a server, or a gateway before it, takes no request for token ids."""
    return error.status_code in (400, 422) and "return_token_ids" in str(error)


def is_about_prompt_ids(error: InvalidRequestError | NotFoundError) -> bool:
    """Whether a refusal is about a prompt in token ids."""
    return any(words in str(error) for words in ("kv_transfer_params", "prompt_token_ids", "out of vocabulary"))


def refuses_an_image(error: InvalidRequestError) -> bool:
    """Whether the server cannot read an image of the request."""
    return BAD_IMAGE.search(str(error).lower()) is not None


def is_empty_not_found(error: LLMError) -> bool:
    """Whether an error is a 404 without a body. Gateways send it while the server behind them restarts."""
    return isinstance(error, NotFoundError) and is_empty(error.__cause__)


def is_missing_path(error: LLMError) -> bool:
    """Whether the server has no such path, as far as its answer says so: one about a model or a reply is another."""
    cause = error.__cause__
    if not isinstance(cause, openai.APIStatusError):
        return False
    message = server_failure(cause).message.strip()
    match cause.status_code:
        case 404:  # a server says it of a model in JSON, a gateway of a path in a page (nginx, Express)
            return is_page(cause) or MISSING_PATH.fullmatch(message) is not None
        case 501:  # vLLM 0.10 refuses a tool_choice with it too
            return NOT_BUILT.search(message) is not None
        case status:
            return status == 405
