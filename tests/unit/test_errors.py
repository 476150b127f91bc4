"""Every refusal and failure of a server becomes a typed error with a readable message."""

import socket
from dataclasses import replace

import httpx
import openai
import pytest
from amplifier_core.llm_errors import (
    AccessDeniedError,
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    NotFoundError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    StreamError,
)

from amplifier_module_provider_vllm import VLLMProvider
from amplifier_module_provider_vllm._errors import (
    empty_reply,
    failed_reply,
    failed_stream,
    failures_as_llm_errors,
    root_cause,
    to_llm_error,
    truncated_stream,
    unknown_model,
)
from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._turn import Status, Turn
from tests.support.failure import URL, error_body, failure
from tests.support.recordings import cases, load_recording
from tests.support.routes import http_response

QWEN, GPT_OSS = "tiny-qwen3", "tiny-gpt-oss"
OVERFLOW = Failure("maximum context length is 9")
FAILED = Turn((), Status.FAILED, failure=Failure("engine dead"))
ERRORS = [
    (group, case)
    for group in (QWEN, GPT_OSS, "tiny-qwen3-auth", "tiny-qwen3-store", "tiny-gpt-oss-store")
    for case in cases(group)
    if load_recording(group, case).status >= 400
]


RETRYABLE = {LLMTimeoutError, NetworkError, ProviderUnavailableError, RateLimitError, StreamError}


def facts(error: LLMError) -> tuple[type[LLMError], bool, int | None]:
    return type(error), error.retryable, error.status_code


@pytest.mark.parametrize(
    ("group", "case", "expected", "message"),
    [
        (QWEN, "ctx_overflow", ContextLengthError, "maximum context length is 4096 tokens. However, your prompt"),
        (QWEN, "ctx_overflow_stream", ContextLengthError, "your prompt contains at least 4097 input tokens"),
        (GPT_OSS, "ctx_overflow", ContextLengthError, "your prompt contains 6068 input tokens"),
        (QWEN, "max_output_tokens_100000", InvalidRequestError, "max_output_tokens=100000 cannot be greater than"),
        (QWEN, "max_output_tokens_0", InvalidRequestError, "max_tokens must be at least 1, got 0."),
        (QWEN, "unknown_model", NotFoundError, "The model `no/such-model` does not exist. Valid aliases: tiny-qwen3."),
        (QWEN, "st_previous_unknown", NotFoundError, "Response with id 'resp_nope' not found."),
        ("tiny-qwen3-auth", "auth_basic", AuthenticationError, "Unauthorized: the server refused the key; set"),
        (QWEN, "unknown_path", NotFoundError, "Not Found"),
        (QWEN, "malformed_json", InvalidRequestError, "JSON decode error"),
        (QWEN, "empty_body", InvalidRequestError, "'msg': 'Field required'"),
        (QWEN, "wrong_content_type", InvalidRequestError, "Only 'application/json' is allowed"),
        (QWEN, "tool_chat_shape", InvalidRequestError, "26 validation errors:"),
        (QWEN, "param_truncation_null", InvalidRequestError, "Input should be 'auto' or 'disabled'"),
        (QWEN, "include_unknown", InvalidRequestError, "Input should be 'code_interpreter_call.outputs'"),
        (GPT_OSS, "effort_none", InvalidRequestError, "reasoning_effort='none' is not supported by Harmony."),
        (GPT_OSS, "tool_custom", InvalidRequestError, "tool type 'custom' is not supported."),
        (QWEN, "tc_required_no_tools", InvalidRequestError, "Tool choice 'required' must be specified with 'tools'"),
        (QWEN, "fmt_json_schema_bad", InvalidRequestError, "Grammar error: Invalid type: wat"),
        (QWEN, "image_input", InvalidRequestError, "tiny-qwen3 is not a multimodal model"),
        (GPT_OSS, "fc_out_without_call", InvalidRequestError, "No call message found for call_1"),
        (QWEN, "replay_message_empty_content", ProviderUnavailableError, "list index out of range"),
        (QWEN, "replay_message_refusal", ProviderUnavailableError, "'ResponseOutputRefusal' object has no attribute"),
        (GPT_OSS, "fc_out_no_call_id", ProviderUnavailableError, "'call_id'"),
    ],
    ids=lambda value: value if isinstance(value, str) and value in {case for _, case in ERRORS} else "",
)  # fmt: skip
async def test_a_recorded_vllm_error_is_classified(
    group: str, case: str, expected: type[LLMError], message: str
) -> None:
    recording = load_recording(group, case)

    error = await failure(http_response(recording))

    assert facts(error) == (expected, recording.status >= 500, recording.status)
    assert (error.provider, error.model, error.retry_after) == ("vllm", "tiny", None)
    assert message in str(error)
    assert isinstance(error.__cause__, openai.APIStatusError)


@pytest.mark.parametrize(("group", "case"), ERRORS)
async def test_every_recorded_refusal_has_a_readable_message(group: str, case: str) -> None:
    recording = load_recording(group, case)

    error = await failure(http_response(recording))

    assert type(error) is not LLMError
    assert error.status_code == recording.status
    assert str(error)
    assert '{"error"' not in str(error)
    assert len(str(error)) <= 2001


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "Input length (6068) exceeds model's maximum context length (4096).", ContextLengthError),
        (400, "The engine prompt length 9 exceeds the max_model_len 8. Please reduce prompt.", ContextLengthError),
        (400, "This prompt is longer than the maximum model length of 8192.", ContextLengthError),
        (400, "Prompt is too long: 9 tokens", ContextLengthError),
        (400, "max_completion_tokens=9000 cannot be greater than max_model_len=4096.", InvalidRequestError),
        (400, "max_tokens=9000 cannot be greater than max_model_len=4096.", InvalidRequestError),
        (400, "blocked by content_filter", ContentFilterError),
        (400, "the word safety does not make this a filter", InvalidRequestError),
        (403, "forbidden", AccessDeniedError),
        (405, "Method Not Allowed", NotFoundError),
        (408, "slow", LLMTimeoutError),
        (409, "conflict", ProviderUnavailableError),
        (413, "too large", ContextLengthError),
        (422, "the image cannot be fetched", InvalidRequestError),
        (425, "too early", ProviderUnavailableError),
        (429, "slow down", RateLimitError),
        (429, "You exceeded your current quota", QuotaExceededError),
        (500, "EngineCore encountered an issue.", ProviderUnavailableError),
        (501, "Only 'auto' tool_choice is supported in response API with Harmony", InvalidRequestError),
        (502, "bad gateway", ProviderUnavailableError),
        (503, "The engine is currently busy. Please try again later.", ProviderUnavailableError),
        (504, "gateway timeout", ProviderUnavailableError),
        (524, "a timeout occurred", ProviderUnavailableError),
        (529, "overloaded", ProviderUnavailableError),
    ],
)
async def test_errors_of_other_versions_and_gateways_are_classified(
    status: int, message: str, expected: type[LLMError]
) -> None:
    error = await failure(httpx.Response(status, json=error_body(message)))

    assert facts(error) == (expected, expected in RETRYABLE, status)
    assert str(error) == message


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (httpx.ConnectError("refused"), NetworkError, "no connection to http://vllm.test/v1"),
        (httpx.ReadError("reset"), NetworkError, "no connection to http://vllm.test/v1"),
        (httpx.ConnectTimeout("timed out"), NetworkError, "within the connect timeout; check that the vLLM server"),
        (httpx.ReadTimeout("timed out"), LLMTimeoutError, "http://vllm.test/v1 sent nothing for too long"),
        (httpx.RemoteProtocolError("incomplete chunked read"), NetworkError, "no connection to http://vllm.test/v1"),
    ],
    ids=["refused", "reset", "connect timeout", "read timeout", "broken"],
)  # fmt: skip
async def test_an_unreachable_server_is_classified(raised: Exception, expected: type[LLMError], message: str) -> None:
    error = await failure(raised)

    assert facts(error) == (expected, True, None)
    assert message in str(error)


async def test_the_error_of_every_address_is_reported_without_the_callers_context() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://localhost:{free.getsockname()[1]}"
    provider = VLLMProvider(url)

    try:
        raise LookupError("no plan left but to ask")
    except LookupError:
        with pytest.raises(NetworkError) as raised:
            await provider.list_models()

    assert "(ConnectionRefusedError: " in str(raised.value)


def test_the_root_cause_of_an_exception_group_is_that_of_its_last_error() -> None:
    group = ExceptionGroup("attempts", [ConnectionRefusedError("at ::1"), ConnectionRefusedError("at 127.0.0.1")])

    assert root_cause(OSError(group)) == "ConnectionRefusedError: at 127.0.0.1"


def test_a_programming_error_is_not_converted() -> None:
    with pytest.raises(KeyError), failures_as_llm_errors("tiny", URL):
        raise KeyError("a bug")


def test_our_own_timeout_becomes_a_timeout_error() -> None:
    error = to_llm_error(TimeoutError(), "tiny", URL)

    assert facts(error) == (LLMTimeoutError, True, None)
    assert str(error) == "http://vllm.test/v1 sent nothing for too long: timed out"


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (truncated_stream("tiny"), StreamError, "the stream ended before the reply did"),
        (failed_stream(Failure("engine dead"), "tiny"), ProviderUnavailableError, "engine dead"),
        (
            failed_stream(Failure("maximum context length is 9"), "tiny"),
            ContextLengthError,
            "maximum context length is 9",
        ),
        (failed_reply(FAILED, "tiny"), ProviderUnavailableError, "engine dead"),
        (
            failed_reply(replace(FAILED, failure=None), "tiny"),
            ProviderUnavailableError,
            "the server ended the reply as failed without a reason",
        ),
    ],
    ids=["cut", "error event", "error event about the context", "failed", "failed silently"],
)
def test_a_failed_reply_is_classified(error: LLMError, expected: type[LLMError], message: str) -> None:
    assert facts(error) == (expected, expected in RETRYABLE, None)
    assert (error.provider, error.model, str(error)) == ("vllm", "tiny", message)


@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (None, "the reply was empty"),
        ("max_output_tokens", "the reply was truncated (max_output_tokens) before any output"),
    ],
)
def test_an_empty_reply_is_an_error(reason: str | None, message: str, retryable: bool) -> None:
    error = empty_reply(Turn((), Status.COMPLETED, incomplete_reason=reason), "tiny", retryable=retryable)

    assert facts(error) == (ProviderUnavailableError, retryable, None)
    assert (error.provider, error.model, str(error)) == ("vllm", "tiny", message)


async def test_the_error_for_an_unknown_model_lists_the_served_models() -> None:
    refusal = await failure(http_response(load_recording(QWEN, "unknown_model")))
    assert isinstance(refusal, NotFoundError)

    error = unknown_model(refusal, ["tiny-qwen3", "other"])

    assert facts(error) == (NotFoundError, False, 404)
    assert str(error).endswith("The server has: tiny-qwen3, other. Set `default_model` to one of them.")
