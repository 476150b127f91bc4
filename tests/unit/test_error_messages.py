"""Error messages: the server's own text, the retry delay, and no pages, secrets or control characters."""

import time
from email.utils import formatdate

import httpx
import pytest
import respx
from amplifier_core.llm_errors import AuthenticationError, LLMError, NotFoundError, ProviderUnavailableError

from amplifier_module_provider_vllm._errors import failures_as_llm_errors
from amplifier_module_provider_vllm._secrets import Secrets
from tests.support.failure import URL, error_body, failure
from tests.support.routes import routed_client


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "The model is currently scaling."}, "The model is currently scaling."),
        ({"detail": "Service Unavailable"}, "Service Unavailable"),
        ({"detail": [{"loc": ["body"]}]}, '{"detail": [{"loc": ["body"]}]}'),
        ({}, "{}"),
        ("plain", "plain"),
    ],
)
async def test_an_error_body_of_another_shape_gives_its_message(body: object, message: str) -> None:
    error = await failure(httpx.Response(503, json=body))

    assert (type(error), error.retryable, error.status_code) == (ProviderUnavailableError, True, 503)
    assert str(error) == message


@pytest.mark.parametrize(("text", "message"), [("out of order", "out of order"), ("", "status 503 without a body")])
async def test_an_error_body_that_is_not_json_gives_its_message(text: str, message: str) -> None:
    error = await failure(httpx.Response(503, text=text))

    assert str(error) == message


@pytest.mark.parametrize(
    ("status", "page", "expected", "message"),
    [
        (403, "<html><title>Just a moment...</title></html>", ProviderUnavailableError, "Just a moment..."),
        (404, "<html><body>Your pod is starting up</body></html>", ProviderUnavailableError, "starting up"),
        (404, "<html><title>404 Not Found</title></html>", NotFoundError, "404 Not Found"),
        (502, "<!doctype html><title>502\nBad Gateway</title>" + "x" * 90_000, ProviderUnavailableError, "Bad Gateway"),
        (503, "<html><h1>busy</h1></html>", ProviderUnavailableError, "untitled"),
        (503, "<html><TITLE lang=en>\nBusy\n</TITLE></html>", ProviderUnavailableError, "Busy"),
        (503, "<html><title> </title>Warming up</html>", ProviderUnavailableError, "warming up"),
    ],
    ids=["bot challenge", "warm-up", "not found", "long", "untitled", "capitals", "empty title"],
)  # fmt: skip
async def test_a_web_page_is_never_the_message(status: int, page: str, expected: type[LLMError], message: str) -> None:
    error = await failure(httpx.Response(status, html=page))

    assert (type(error), error.retryable, error.status_code) == (expected, expected is ProviderUnavailableError, status)
    assert message in str(error)
    assert "<" not in str(error)
    assert len(str(error)) < 200


async def test_a_page_of_unclosed_titles_is_parsed_in_linear_time() -> None:
    began = time.process_time()

    await failure(httpx.Response(503, html="<title>" * 14_000))

    assert time.process_time() - began < 1  # a regular expression with two open ends takes seven


@pytest.mark.parametrize(
    ("headers", "retry_after"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "300"}, 300.0),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Sat, 21 Nov 2026 07:00:30 GMT", "date": "Sat, 21 Nov 2026 07:00:00 GMT"}, 30.0),
        ({"retry-after": "Sat Nov 21 07:00:30 2026", "date": "Sat, 21 Nov 2026 07:00:00 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 06:00:00 GMT", "date": "Sat, 21 Nov 2026 07:00:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2020 07:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": ""}, None),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_retry_after_is_read(status: int, headers: dict[str, str], retry_after: float | None) -> None:
    error = await failure(httpx.Response(status, json=error_body("busy"), headers=headers))

    assert (error.retry_after, error.retryable) == (retry_after, True)


@pytest.mark.parametrize("date", [{}, {"date": "today"}], ids=["without a date", "with an invalid date"])
async def test_a_date_to_wait_for_is_relative_to_our_clock_if_the_reply_has_no_date(date: dict[str, str]) -> None:
    headers = {"retry-after": formatdate(time.time() + 30, usegmt=True), **date}

    error = await failure(httpx.Response(503, json=error_body("busy"), headers=headers))

    assert error.retry_after == pytest.approx(29, abs=2)


async def test_a_key_echoed_by_a_gateway_is_removed_from_the_message() -> None:
    router = respx.MockRouter()
    router.get(f"{URL}/models").respond(401, json=error_body("Incorrect API key provided: sk-very-secret."))

    key = Secrets(["sk-very-secret"])

    with pytest.raises(AuthenticationError) as raised, failures_as_llm_errors("tiny", URL, "", lambda: key):
        await routed_client(router, URL).with_options(api_key="sk-very-secret").models.list()

    assert str(raised.value).startswith("Incorrect API key provided: [REDACTED].")


async def test_control_characters_are_removed_and_long_messages_truncated() -> None:
    error = await failure(httpx.Response(400, json=error_body("\x1b[31mred\x1b[0m\x00\x9b " + "x" * 5000)))

    assert str(error).startswith("[31mred[0m x")
    assert len(str(error)) == 2001
