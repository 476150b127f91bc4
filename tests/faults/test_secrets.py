"""A key never appears in a log line, event, error, repr or dump, whatever a server does."""

import base64
import json
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from amplifier_core.llm_errors import ConfigurationError, LLMError

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.fault_table import FAULTS, SILENCES
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import ReplayServer, Reply
from tests.support.session import Session
from tests.support.wire import HEALTHY, page, refusal

KEY: Final = "sk-canary-key-5d0c41"
HEADER: Final = "canary-header-77f1aa"
CALL: Final = "canary-call-91be03"
USER: Final = "canary-user-0c2f"
PASSWORD: Final = "canary-password-4e8d"
PAIR: Final = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CANARIES: Final = (KEY, HEADER, CALL, USER, PASSWORD, PAIR)

VERBOSE: Final = {"raw": True, "debug": True, "raw_debug": True, "debug_truncate_length": 100_000}
ECHO: Final = {
    "config": f"Bearer {KEY}, x-api-key {HEADER}, x-call-key {CALL}",
    "environment": f"Bearer {KEY}, x-api-key {HEADER}, x-call-key {CALL}",
    "url": f"Basic {PAIR}, {USER}:{PASSWORD}, {PASSWORD}, x-api-key {HEADER}, x-call-key {CALL}",
}
"""Secrets that a server may echo."""
ECHOES: Final[dict[str, Reply]] = {
    **{f"{status} repeats the key": refusal(status, "Invalid: ECHO") for status in (400, 401, 403, 429, 500)},
    "a page repeats the key": page(502, "<title>Invalid: ECHO</title>"),
}
PATHS: Final[dict[str, tuple[Reply, Reply]]] = {
    "healthy": (HEALTHY[True], HEALTHY[False]),
    **{name: (answer, answer) for name, answer in ECHOES.items()},
    **{name: (fault.sse_reply, fault.whole_reply) for name, fault in FAULTS.items()},
}
IMPATIENT: Final[dict[str, Any]] = {"max_retries": 1, "stream_idle_timeout": 5}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Capture the logs of all libraries, without the user's own environment."""
    for variable in ("VLLM_API_KEY", "VLLM_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "asyncio", "amplifier_core"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("place", ["config", "environment", "url"])
async def test_no_secret_leaks_on_any_path(
    path: str, place: str, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: dict[str, Any] = {**IMPATIENT, **VERBOSE, "extra_headers": {"X-Api-Key": HEADER}}
    config |= {"stream_idle_timeout": 0.2} if path in SILENCES else {}
    config |= {"api_key": KEY} if place == "config" else {}
    if place == "environment":
        config |= {"api_key": "${VLLM_API_KEY}"}
        monkeypatch.setenv("VLLM_API_KEY", KEY)
    stream = place != "url"
    answer = PATHS[path][0 if stream else 1]
    answer = replace(answer, body=answer.body.replace(b"ECHO", ECHO[place].encode()))
    texts: list[str] = []

    async with ReplayServer(always=answer) as server:
        bare = server.base_url
        server.base_url = bare.replace("//", f"//{USER}:{PASSWORD}@") if place == "url" else bare
        async with provider_session(server, use_streaming=stream, **config) as (session, provider):
            texts += [await _outcome(provider, extra_headers={"X-Call-Key": CALL})]
            texts += _visible_texts(provider, session)

    sent = [value for request in server.requests for value in request.headers.values()]
    expected = {"Basic " + PAIR if place == "url" else "Bearer " + KEY, HEADER, CALL}
    assert expected <= set(sent)
    assert _leaks([*texts, *_records(logged)]) == []


@pytest.mark.parametrize(
    "config",
    [
        {"api_key": [KEY]},
        {"api_key": KEY + "é"},
        {"api_key": KEY + "\nX-More: 1"},
        {"base_url": [f"http://{USER}:{PASSWORD}@here/v1"]},
        {"extra_headers": {"X-Api-Key": [HEADER]}},
        {"extra_headers": [HEADER]},
        {"extra_headers": {"X-Api-Key": HEADER + "é"}},
        {"extra_headers": {"X-Api-Key": HEADER + "\r\nX-More: 1"}},
        {"extra_request_params": [KEY]},
    ],
    ids=str,
)
def test_the_error_for_an_invalid_config_hides_its_secrets(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        VLLMProvider(**{"base_url": "http://127.0.0.1:1", "config": config} | _url_in(config))

    assert _leaks(traceback.format_exception(raised.value)) == []


@pytest.mark.parametrize(
    "url",
    [
        f"{USER}:{PASSWORD}@here:8000",
        f"ftp://{USER}:{PASSWORD}@here",
        f"http://{USER}:{PASSWORD}#x@here:8000",
        f"http://{USER}:#{PASSWORD}@here:8000",
        f"http://{USER}:/{PASSWORD}@here:8000",
        f"http://{USER}:{PASSWORD}@here:port",
        f"http://{USER}:{PASSWORD}@[::1",
        f"http://{USER}:{PASSWORD}@ⓗⓔⓡⓔ℀",
        f"{USER}:{PASSWORD}@",
    ],
)
def test_the_error_for_an_invalid_url_hides_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="base_url") as raised:
        VLLMProvider(url)

    assert _leaks(traceback.format_exception(raised.value)) == []


async def test_a_trailing_newline_of_a_key_is_removed() -> None:
    async with ReplayServer(HEALTHY[True]) as server, provider_session(server, api_key=f"{KEY}\n") as (_, provider):
        await provider.complete(CITIES)

    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}


async def test_the_password_of_the_url_is_sent_as_basic_auth() -> None:
    async with ReplayServer(HEALTHY[True]) as server:
        server.base_url = server.base_url.replace("//", "//me%40here:p%3Aq@")
        async with provider_session(server) as (_, provider):
            await provider.complete(CITIES)

    pair = base64.b64encode(b"me@here:p:q").decode()
    assert {request.headers["authorization"] for request in server.requests} == {f"Basic {pair}"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
async def test_a_redirect_to_another_host_receives_no_secret(status: int, stream: bool) -> None:
    async with ReplayServer(always=HEALTHY[stream]) as elsewhere:
        # Another port is another host for HTTP.
        onward = Reply(status, {"location": f"{elsewhere.base_url}/responses"}, b"")
        cards = replace(onward, headers={"location": f"{elsewhere.base_url}/models"})
        config: dict[str, Any] = {"api_key": KEY, "extra_headers": {"X-Api-Key": HEADER}, "default_model": "tiny-qwen3"}
        async with (
            ReplayServer(always=onward, models=cards) as server,
            provider_session(server, use_streaming=stream, **config) as (_, provider),
        ):
            with pytest.raises(ConfigurationError, match=f"redirects requests to '{elsewhere.base_url}"):
                await provider.complete(CITIES)

    assert elsewhere.requests == []


async def test_the_error_for_a_redirect_hides_the_key() -> None:
    onward = Reply(302, {"location": f"http://{USER}:{PASSWORD}@127.0.0.1:1/{KEY}/responses?key={KEY}"}, b"")

    async with ReplayServer(always=onward) as server, provider_session(server, api_key=KEY) as (session, provider):
        texts = [await _outcome(provider), *_visible_texts(provider, session)]

    assert "redirects requests to 'http://127.0.0.1:1/[REDACTED]/responses'" in texts[0]
    assert _leaks(texts) == []


async def test_control_characters_of_a_server_message_are_removed(logged: pytest.LogCaptureFixture) -> None:
    forged = "busy\r\n2026-11-21 ERROR root: all is lost\x1b]0;title\x07\x1b[2J\u202egnp\u2028x\x85y\x00"

    async with (
        ReplayServer(always=refusal(500, forged)) as server,
        provider_session(server, **IMPATIENT) as (session, provider),
    ):
        outcome = await _outcome(provider)

    messages = [data["error_message"] for data in session.payloads("provider:retry")]
    messages += [data["error"]["msg"] for data in session.payloads("llm:response")]
    assert set(messages) == {"busy 2026-11-21 ERROR root: all is lost]0;title[2Jgnp x y"}
    assert all(character.isprintable() for line in outcome.splitlines()[-1:] for character in line)
    assert all(character.isprintable() for record in logged.records for character in _message(record))


@pytest.mark.parametrize("name", ["model\x1b[2J", "model\nERROR forged"])
async def test_a_model_name_with_control_characters_is_not_listed(name: str) -> None:
    cards = {"data": [{"id": name}, {"id": "one"}, {"id": "two"}]}

    async with (
        ReplayServer(models=Reply(200, {}, json.dumps(cards).encode())) as server,
        provider_session(server) as (_, provider),
    ):
        with pytest.raises(ConfigurationError) as raised:
            await provider.complete(CITIES)

    assert str(raised.value).endswith("serves several models; set `default_model` to one of: one, two")


def test_the_package_never_disables_tls_verification() -> None:
    switches = ("verify=False", "CERT_NONE", "check_hostname", "_create_unverified_context")
    modules = [*(Path(__file__).parents[2] / "amplifier_module_provider_vllm").rglob("*.py")]

    assert any("ssl" in module.read_text() for module in modules)
    assert [module for module in modules if any(switch in module.read_text() for switch in switches)] == []


async def _outcome(provider: VLLMProvider, **kwargs: Any) -> str:
    """The reply as JSON, or the error with its full traceback."""
    try:
        return (await provider.complete(CITIES, **kwargs)).model_dump_json()
    except LLMError as error:
        chain = [part for link in _chain(error) for part in (repr(link), str(link), repr(vars(link)))]
        return "\n".join([*chain, *traceback.format_exception(error)])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _visible_texts(provider: VLLMProvider, session: Session) -> list[str]:
    events = [json.dumps(event.data) for event in session.events]
    return [*events, repr(provider), str(provider), provider.url, provider.get_info().model_dump_json()]


def _message(record: logging.LogRecord) -> str:
    return record.getMessage()


def _records(logged: pytest.LogCaptureFixture) -> list[str]:
    return [_message(record) for record in logged.records]


def _leaks(texts: list[str]) -> list[tuple[str, str]]:
    return [(canary, text[:2000]) for text in texts for canary in CANARIES if canary in text]


def _url_in(config: dict[str, Any]) -> dict[str, Any]:
    return {"base_url": config["base_url"]} if "base_url" in config else {}
