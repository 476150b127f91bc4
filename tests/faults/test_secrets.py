"""A key never appears in a log line, event, error, repr or dump, whatever a server does."""

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from amplifier_core.llm_errors import ConfigurationError, ContextLengthError, InvalidRequestError, LLMError

from amplifier_module_provider_vllm import VLLMProvider
from amplifier_module_provider_vllm._cli import main
from amplifier_module_provider_vllm._config import EndpointName
from tests.support.fault_table import FAULTS, silences
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import ReplayServer, Reply, json_reply
from tests.support.session import Session
from tests.support.speaker import ANSWERS, Answer, body_of
from tests.support.speech import CITIES_ANSWER
from tests.support.wire import (
    HEALTHY,
    OPENING,
    event,
    message_item,
    page,
    refusal,
    response,
    sse_reply,
    text_delta,
    whole_reply,
)

KEY: Final = "sk-canary-key-5d0c41"
HEADER: Final = "canary-header-77f1aa"
CALL: Final = "canary-call-91be03"
TOOL: Final = "canary-tool-2b77"
TOOL_URL: Final = "canary-tool-url-6e15"
USER: Final = "canary-user-0c2f"
PASSWORD: Final = "canary-password-4e8d"
PAIR: Final = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CANARIES: Final = (KEY, HEADER, CALL, TOOL, TOOL_URL, USER, PASSWORD, PAIR)

VERBOSE: Final = {"raw": True, "debug": True, "raw_debug": True, "debug_truncate_length": 100_000}
ECHO: Final = {
    "config": f"Bearer {KEY}, x-api-key {HEADER}, x-call-key {CALL}",
    "environment": f"Bearer {KEY}, x-api-key {HEADER}, x-call-key {CALL}",
    "url": f"Basic {PAIR}, {USER}:{PASSWORD}, {PASSWORD}, x-api-key {HEADER}, x-call-key {CALL}",
}
"""Secrets that a server may echo."""
ECHOES: Final[dict[str, Reply]] = {
    **{f"{status} repeats the key": refusal(status, "Invalid: ECHO") for status in (400, 401, 403, 404, 429, 500)},
    "a refusal without a message repeats the key": json_reply(422, {"detail": [{"msg": ["ECHO"]}]}),
    "a page repeats the key": page(502, "<title>Invalid: ECHO</title>"),
    "a warm-up page repeats the key": page(404, "<title>ECHO</title><p>Your model is starting up"),
    "a text repeats the key": Reply(503, {"content-type": "text/plain"}, b"Invalid: ECHO"),
    "a redirect repeats the key": Reply(307, {"location": "http://127.0.0.1:1/v1/ECHO"}, b"ECHO"),
    "a header repeats the key": Reply(0, {}, b"HTTP/1.1 200 OK\r\nECHO\x00\r\n\r\n"),
    "no HTTP, but the key": Reply(0, {}, b"Invalid: ECHO\r\n\r\n"),
    "a reply that is no JSON repeats the key": whole_reply(b"Invalid: ECHO"),
    "a reply with a wrong type repeats the key": whole_reply(b'{"output": "ECHO", "status": "ECHO"}'),
    "a reply that is not UTF-8 repeats the key": whole_reply(b'{"output": [], "id": "ECHO\xff"}'),
}
REPEATED: Final = {"code": "server_error", "message": "Invalid: ECHO"}
CUT: Final = response(status="incomplete", incomplete_details={"reason": "ECHO"})
CUT_TEXT: Final = response(message_item(), status="incomplete", incomplete_details={"reason": "ECHO"})
COMPLETED_WITHOUT_OUTPUT: Final = event("response.completed", response=response())
FAILED: Final = response(status="failed", error=REPEATED)
BODIES: Final[dict[str, tuple[bytes, Any]]] = {
    "an error event repeats the key": (event("error", **REPEATED), {"error": REPEATED}),
    "an error event with a status repeats the key": (
        event("error", message="Invalid: ECHO", code=400), {"error": {"message": "Invalid: ECHO", "code": 400}},
    ),
    "a nested error event repeats the key": (event("error", error=REPEATED), {"error": "Invalid: ECHO"}),
    "an unnamed error event repeats the key": (b'data: {"error": {"message": "ECHO"}}\n\n', {"error": "ECHO"}),
    "an error event repeats only the code": (event("error", error={"code": "ECHO"}), {"error": {"code": "ECHO"}}),
    "an event with a wrong type repeats the key": (event("response.output_text.delta", delta={"ECHO": 1}), FAILED),
    "an event that is no JSON repeats the key": (b"event: error\ndata: ECHO\n\n", FAILED),
    "an event that is not UTF-8 repeats the key": (b'event: error\ndata: "ECHO\xff"\n\n', FAILED),
    "a failed reply repeats the key": (event("response.failed", response=FAILED), FAILED),
    "an empty incomplete reply repeats the key": (event("response.incomplete", response=CUT), CUT),
    "an incomplete reply repeats the key": (event("response.incomplete", response=CUT_TEXT), CUT_TEXT),
    "an error instead of a stream repeats the key": (b"", FAILED),
}  # fmt: skip


def _choices(answer: Answer) -> dict[str, tuple[bytes, Any]]:
    """Events and bodies of the endpoints whose replies are choices."""
    speaker, aborted = answer.speaker, replace(CITIES_ANSWER, ending="abort")
    end = speaker.stream(aborted).ending[0].replace(b'"abort"', b'"ECHO"')
    ended = json.loads(body_of(speaker, aborted).replace(b'"abort"', b'"ECHO"'))
    return {
        "an error event repeats the key": (speaker.error(REPEATED)[0], {"error": REPEATED}),
        "an error that is text repeats the key": (speaker.error("ECHO")[0], {"error": "ECHO"}),
        "an error event repeats only the code": (speaker.error({"code": "ECHO"})[0], {"error": {"code": "ECHO"}}),
        "an event with a wrong type repeats the key": (
            answer.text_delta("oh").replace(b'"oh"', b'{"ECHO": 1}'), {"choices": {"ECHO": 1}},
        ),
        "choices that are none repeat the key": (speaker.last_event(b'{"choices": "ECHO"}'), {"choices": "ECHO"}),
        "an event that is no JSON repeats the key": (speaker.last_event(b"ECHO"), ["ECHO"]),
        "an event that is not UTF-8 repeats the key": (speaker.last_event(b'"ECHO\xff"'), "ECHO"),
        "a finish reason repeats the key": (end, ended),
    }  # fmt: skip


def _paths(answer: Answer) -> dict[str, tuple[Reply, Reply]]:
    """A streamed and an unstreamed reply for each path of the code."""
    bodies = BODIES if answer.endpoint == "responses" else _choices(answer)
    faults = FAULTS[answer.endpoint].items()
    return {
        "healthy": (answer.sse(), answer.whole()),
        **{name: (echo, echo) for name, echo in ECHOES.items()},
        **{
            name: (sse_reply(*answer.stream.opening, one), whole_reply(json.dumps(body).encode()))
            for name, (one, body) in bodies.items()
        },
        **{name: (fault.sse_reply, fault.whole_reply) for name, fault in faults},
    }


PATHS: Final = {name: _paths(answer) for name, answer in ANSWERS.items()}
SILENCES: Final = silences(ANSWERS["responses"]).keys()
PLACES: Final = {"responses": ("config", "environment", "url")}
"""Where the secrets of a server stand; for the other endpoints, one place for each way of delivery."""
LEAKS: Final = [
    pytest.param(endpoint, path, place, id=f"{endpoint}-{place}-{path}")
    for endpoint, paths in PATHS.items()
    for place in PLACES.get(endpoint, ("config", "url"))
    for path in paths
]
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


@pytest.mark.parametrize(("endpoint", "path", "place"), LEAKS)
async def test_no_secret_leaks_on_any_path(
    endpoint: EndpointName, path: str, place: str, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = {"type": "mcp", "server_label": "docs", "headers": {"Authorization": f"Bearer {TOOL}"}}
    tool |= {"server_url": f"http://docs/mcp?key={TOOL_URL}"}
    config: dict[str, Any] = {**IMPATIENT, **VERBOSE, "endpoint": endpoint, "extra_headers": {"X-Api-Key": HEADER}}
    if endpoint == "responses":  # the only one with hosted tools
        config |= {"extra_request_params": {"tools": [tool]}} if place == "environment" else {"hosted_tools": [tool]}
    config |= {"stream_idle_timeout": 0.2} if path in SILENCES else {}
    config |= {"api_key": KEY} if place == "config" else {}
    if place == "environment":
        config |= {"api_key": "${VLLM_API_KEY}"}
        monkeypatch.setenv("VLLM_API_KEY", KEY)
    stream = place != "url"
    answer = PATHS[endpoint][path][0 if stream else 1]
    of_the_tool = f", MCP server: Bearer {TOOL} {TOOL_URL}" if endpoint == "responses" else ""
    answer = _echoing(answer, ECHO[place] + of_the_tool)
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


async def test_the_names_of_models_repeat_no_secret_in_an_error(logged: pytest.LogCaptureFixture) -> None:
    cards = json_reply(200, {"data": [{"id": f"gpt {KEY}"}, {"id": f"llama {HEADER}"}]})
    config: dict[str, Any] = {**IMPATIENT, **VERBOSE, "api_key": KEY, "extra_headers": {"X-Api-Key": HEADER}}
    async with (
        ReplayServer(always=refusal(404, "no such model"), models=cards) as server,
        provider_session(server, **config) as (session, provider),
    ):
        texts = [await _outcome(provider), await _outcome(provider, model="other"), *_visible_texts(provider, session)]

    assert "gpt [REDACTED], llama [REDACTED]" in texts[0]
    assert "gpt [REDACTED], llama [REDACTED]" in texts[1]
    assert _leaks([*texts, *_records(logged)]) == []


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
async def test_no_secret_leaks_while_models_are_listed_and_a_request_is_counted(
    answer: Reply, logged: pytest.LogCaptureFixture
) -> None:
    answer = _echoing(answer, ECHO["config"])
    config: dict[str, Any] = {**IMPATIENT, "api_key": KEY, "extra_headers": {"X-Api-Key": HEADER, "X-Call-Key": CALL}}

    async with (
        ReplayServer(models=answer, elsewhere=answer) as server,
        provider_session(server, default_model="tiny-qwen3", **config) as (session, provider),
    ):
        with pytest.raises(LLMError) as raised:
            await provider.list_models()
        budget = await provider.request_budget(CITIES, context_estimate=1)
        texts = [_all_of(raised.value), *_visible_texts(provider, session)]

    assert budget is None
    assert {request.path for request in server.requests} >= {"/tokenize", "/v1/messages/count_tokens"}
    assert _leaks([*texts, *_records(logged)]) == []


@pytest.mark.parametrize("form", ["plain", "--json"])
@pytest.mark.parametrize("place", ["models", "reply", "version"])
@pytest.mark.parametrize("name", [*ECHOES, *BODIES, "names", "a model's text"])
async def test_the_doctor_shows_no_secret(
    name: str, place: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = json_reply(200, {"data": [{"id": "tiny-qwen3"}, {"id": "ECHO"}], "version": "ECHO"})
    replies = {name: sides[0] for name, sides in PATHS["responses"].items()} | {
        "names": names, "a model's text": sse_reply(*OPENING, text_delta("ECHO"), COMPLETED_WITHOUT_OUTPUT),
    }  # fmt: skip
    answer = _echoing(replies[name], ECHO["config"])
    config = {"api_key": KEY, "extra_headers": {"X-Api-Key": HEADER, "X-Call-Key": CALL}, "stream_idle_timeout": 5}
    served: dict[str, Any] = {"models": {"models": answer}, "reply": {}, "version": {"elsewhere": answer}}[place]

    async with ReplayServer(always=answer if place == "reply" else HEALTHY[True], **served) as server:
        file = tmp_path / "plan.json"
        entry = {"module": "provider-vllm", "config": {"base_url": server.base_url, **config}}
        file.write_text(json.dumps({"providers": [entry]}))
        await asyncio.to_thread(main, ["doctor", "--config", str(file), *([form] if form == "--json" else [])])

    shown = capsys.readouterr()
    assert "127.0.0.1" in shown.out
    assert _leaks([shown.out, shown.err]) == []


@pytest.mark.parametrize("offset", range(1950, 2010, 3))
async def test_a_key_where_a_long_message_is_cut_is_hidden_too(offset: int) -> None:
    words = "x " * (offset // 2) + "y" * (offset % 2) + KEY + " z" * 2000

    async with (
        ReplayServer(always=refusal(400, words)) as server,
        provider_session(server, api_key=KEY) as (_, provider),
    ):
        outcome = await _outcome(provider)

    assert "sk-can" not in outcome


@pytest.mark.parametrize("spelled", [quote('k/"e y+1\\', safe=""), json.dumps('k/"e y+1\\')[1:-1], 'k/"e y+1\\'])
async def test_a_key_with_special_characters_is_hidden_however_it_is_spelled(spelled: str) -> None:
    answer = Reply(400, {"content-type": "text/plain"}, f"Invalid: {spelled}.".encode())
    async with (
        ReplayServer(always=answer) as server,
        provider_session(server, api_key='k/"e y+1\\') as (_, provider),
    ):
        with pytest.raises(InvalidRequestError) as raised:
            await provider.complete(CITIES)

    assert str(raised.value) == "Invalid: [REDACTED]."


@pytest.mark.parametrize("key", ["x", "len", "context", "maximum context length"])
@pytest.mark.parametrize("kind", ["refusal", "error event", "failed reply"])
async def test_the_class_of_an_error_does_not_depend_on_the_key(kind: str, key: str) -> None:
    message = "This model's maximum context length is 4096 tokens, see max_model_len; key x len"
    answer = {
        "refusal": refusal(400, message),
        "error event": sse_reply(*OPENING, event("error", message=message)),
        "failed reply": sse_reply(*OPENING, event("response.failed", response=response(error={"message": message}))),
    }[kind]

    async with ReplayServer(always=answer) as server, provider_session(server, api_key=key) as (_, provider):
        with pytest.raises(ContextLengthError) as raised:
            await provider.complete(CITIES)

    shown = {
        "x": message.replace("key x", "key [REDACTED]"),
        "len": message.replace("x len", "x [REDACTED]"),
    }.get(key, message.replace(key, "[REDACTED]"))
    assert str(raised.value) == shown


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


def _echoing(answer: Reply, secrets: str) -> Reply:
    headers = {name: value.replace("ECHO", quote(secrets)) for name, value in answer.headers.items()}
    return replace(answer, headers=headers, body=answer.body.replace(b"ECHO", secrets.encode()))


async def _outcome(provider: VLLMProvider, **kwargs: Any) -> str:
    """The reply as JSON, or the error with its full traceback."""
    try:
        return (await provider.complete(CITIES, **kwargs)).model_dump_json()
    except LLMError as error:
        return _all_of(error)


def _all_of(error: BaseException) -> str:
    chain = [part for link in _chain(error) for part in (repr(link), str(link), repr(vars(link)))]
    return "\n".join([*chain, *traceback.format_exception(error)])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and all that a traceback or a debugger shows of where it came from."""
    if error is not None:
        yield error
        yield from _chain(error.__cause__)
        yield from _chain(error.__context__)


def _visible_texts(provider: VLLMProvider, session: Session) -> list[str]:
    events = [json.dumps(event.data) for event in session.events]
    return [*events, repr(provider), str(provider), provider.url, provider.get_info().model_dump_json()]


def _message(record: logging.LogRecord) -> str:
    return record.getMessage()


def _records(logged: pytest.LogCaptureFixture) -> list[str]:
    """Every log line, but for those in which libraries show the headers of a response, at level DEBUG."""
    raw_headers = ("receive_response_headers.", "HTTP Response: ")
    return [_message(record) for record in logged.records if not _message(record).startswith(raw_headers)]


def _leaks(texts: list[str]) -> list[tuple[str, str]]:
    return [(canary, text[:2000]) for text in texts for canary in CANARIES if canary in text]


def _url_in(config: dict[str, Any]) -> dict[str, Any]:
    return {"base_url": config["base_url"]} if "base_url" in config else {}
