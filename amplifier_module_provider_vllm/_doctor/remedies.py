"""What to do about a failure of a server that was reached."""

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
