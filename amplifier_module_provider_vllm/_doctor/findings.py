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
KEY = "set `api_key` (VLLM_API_KEY) to the server's `--api-key`"


class Outcome(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing; a session works all the same."""
    FAIL = "fail"
    """A session would not work, or would be far from what the model can do."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    outcome: Outcome
    message: str
    remedy: str | None = None
    """The server flag, the config key or the step that changes it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the config as it is in effect, fit to be shown."""

    key: str
    value: Any
    source: str


@dataclass(slots=True)
class Examination:
    """All that is known of one vLLM provider so far."""

    name: str
    url: str | None = None
    settings: list[Setting] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

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
            return "ask whoever runs the server what this key may do; a gateway may want something in `extra_headers`"
        case AuthenticationError():
            return KEY
        case ContextLengthError():
            return "start vLLM with a longer `--max-model-len`: a session needs room for its tools and its history"
        case InvalidRequestError() | ContentFilterError():
            return "change what it names in the config: `extra_request_params`, `reasoning`, `truncation`, `max_tokens`"
        case QuotaExceededError() | RateLimitError():
            return "wait, or ask whoever runs the gateway for a higher limit"
        case LLMTimeoutError():
            return f"{SERVER_LOG}: it is overloaded, or stuck"
        case NetworkError():
            return f"{SERVER_LOG}: it went away"
        case ConfigurationError():
            return "correct that key"
        case _:
            return SERVER_LOG
