"""What the doctor found: one finding for each check, and what to do about it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from amplifier_core.llm_errors import (
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    QuotaExceededError,
    RateLimitError,
)

SERVER_LOG = "look at the end of vLLM's log"
CHOOSE_MODEL = "set `default_model` to the model to ask; for one run of the doctor, use `--model`"
LONGER_WINDOW = "start vLLM with a longer `--max-model-len`: a session needs room for its tools and its history"
WITHOUT_GATEWAY = "set `base_url` to vLLM itself"
SET_KEY = "set `api_key` (VLLM_API_KEY) to the server's `--api-key`"


class Outcome(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing; a session works anyway."""
    FAIL = "fail"
    """A session would not work, or would work far below what the model can do."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    outcome: Outcome
    message: str
    remedy: str | None = None
    """The server flag, config key or step that fixes it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One config key with its effective value, secrets hidden."""

    key: str
    value: Any
    source: str


@dataclass(slots=True)
class Examination:
    """Everything found about one vLLM provider so far."""

    name: str
    url: str | None = None
    settings: list[Setting] = field(default_factory=list[Setting])
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def failed_checks(self) -> list[str]:
        return [finding.check for finding in self.findings if finding.outcome is Outcome.FAIL]


def ok(check: str, message: str) -> Finding:
    return Finding(check, Outcome.OK, message)


def note(check: str, message: str, remedy: str | None = None) -> Finding:
    return Finding(check, Outcome.NOTE, message, remedy)


def fail(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Outcome.FAIL, message, remedy)


def remedy_for(error: LLMError) -> str:
    match error:
        case AccessDeniedError():
            return "ask the server's operator what this key may do; a gateway may require something in `extra_headers`"
        case AuthenticationError():
            return SET_KEY
        case ContextLengthError():
            return LONGER_WINDOW
        case InvalidRequestError() | ContentFilterError():
            return "change what it names in the config: `extra_request_params`, `reasoning`, `truncation`, `max_tokens`"
        case QuotaExceededError() | RateLimitError():
            return "wait, or ask the gateway's operator for a higher limit"
        case LLMTimeoutError():
            return f"{SERVER_LOG}: it is overloaded, or stuck"
        case NetworkError():
            return f"{SERVER_LOG}: the connection was lost"
        case ConfigurationError():
            return "correct the config key or the variable that the message names"
        case _:
            return SERVER_LOG
