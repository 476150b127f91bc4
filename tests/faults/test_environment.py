"""A bad proxy or certificate variable is an error that names it; a URL's query is sent with every request."""

import json
import logging
from typing import Any, Final

import pytest
from amplifier_core.llm_errors import ConfigurationError

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.doctor import run_doctor
from tests.support.exchange import CAPITAL
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import NOT_FOUND, ReplayServer
from tests.support.wire import HEALTHY, refusal

pytestmark = pytest.mark.usefixtures("clean_environment")

PASSWORD: Final = "canary-password-77"
REMEDY: Final = "correct or unset this variable; servers in NO_PROXY are asked without a proxy"
BAD_PROXIES: Final = {
    "SOCKS": (f"socks5://me:{PASSWORD}@proxy:1080", "'socks5://proxy:1080'"),
    "an unknown scheme": (f"foo://me:{PASSWORD}@proxy:1", "'foo://proxy:1'"),
    "a port that is none": (f"http://me:{PASSWORD}@proxy:port", "'http://proxy:port'"),
    "no host": ("http://", "'http://'"),
    "an address that is none": (f"http://me:{PASSWORD}@[::1", "'http://[::1'"),
}


@pytest.mark.parametrize("kind", BAD_PROXIES)
@pytest.mark.parametrize(
    ("variable", "scheme"),
    [
        ("ALL_PROXY", "http"),
        ("all_proxy", "https"),
        ("HTTP_PROXY", "http"),
        ("http_proxy", "http"),
        ("HTTPS_PROXY", "https"),
        ("https_proxy", "https"),
    ],
)
async def test_a_bad_proxy_is_an_error_that_names_its_variable(
    variable: str, scheme: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, shown = BAD_PROXIES[kind]
    monkeypatch.setenv(variable, value)
    url = f"{scheme}://vllm.test:8000"
    provider = VLLMProvider(url, config={"default_model": "tiny-qwen3"})

    errors = await both_errors(provider)
    findings = await run_doctor(url)

    assert all(error.startswith(f"the variable {variable} names the proxy {shown}") for error in errors)
    assert errors[0] == findings["reachable"].message
    assert findings["reachable"].remedy == REMEDY
    assert PASSWORD not in str((errors, findings))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:1"], ids=["direct", "proxy"])
async def test_a_missing_certificate_is_an_error_that_names_its_variable(
    variable: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/nonexistent")
    if proxy is not None:
        monkeypatch.setenv("https_proxy", proxy)
    provider = VLLMProvider("https://vllm.test:8000", config={"default_model": "tiny-qwen3"})

    errors = await both_errors(provider)
    findings = await run_doctor("https://vllm.test:8000")

    assert set(errors) == {f"the variable {variable} names '/nonexistent', which cannot be read as certificates"}
    assert errors[0] == findings["reachable"].message
    assert findings["reachable"].remedy == REMEDY


async def test_a_file_without_certificates_is_named_too(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "empty.pem"
    file.write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    with pytest.raises(ConfigurationError, match=f"the variable SSL_CERT_FILE names '{file}', which cannot be read"):
        await VLLMProvider("https://vllm.test:8000").list_models()


async def test_a_server_on_this_machine_needs_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "foo://proxy:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")

    async with ReplayServer(HEALTHY[True]) as server, provider_session(server) as (_, provider):
        response = await provider.complete(CITIES)

    assert response.finish_reason == "stop"


async def test_a_proxy_is_asked_with_the_query_and_only_our_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ReplayServer(always=HEALTHY[True]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Other: canary")
        provider = VLLMProvider("http://vllm.test:8000/v1?api-version=1", config={"default_model": "tiny-qwen3"})
        with pytest.raises(Exception, match="Not Found"):  # the proxy of this test knows no absolute URLs
            await provider.complete(CITIES)
        await provider.close()

    assert {request.path for request in proxy.requests} == {
        "http://vllm.test:8000/v1/models?api-version=1",
        "http://vllm.test:8000/v1/responses?api-version=1",
        "http://vllm.test:8000/v1/chat/completions?api-version=1",
    }
    assert [request for request in proxy.requests if {"x-other", "authorization"} & request.headers.keys()] == []


QUERY: Final = "api-version=2026-11-21&api-key=canary-key-1f&flag&empty=&name=a%20b%2Fc&name=d"


async def test_the_query_of_a_url_is_sent_with_every_request() -> None:
    async with ReplayServer(always=HEALTHY[True], paths={"/tokenize": NOT_FOUND}) as server:
        bare = server.base_url
        server.base_url = f"{bare}/?{QUERY}"
        async with provider_session(server) as (_, provider):
            await provider.list_models()
            await provider.complete(CITIES)
            await provider.request_budget(CITIES, context_estimate=1)
        await run_doctor(server.base_url)

    asked = {tuple(request.path.split("?", 1)) for request in server.requests}
    paths = ["/v1/models", "/v1/responses", "/tokenize", "/v1/messages/count_tokens", "/version", "/openapi.json"]
    assert asked == {(path, QUERY) for path in paths}
    assert provider.url == bare


async def test_a_key_in_the_query_is_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ReplayServer(always=refusal(400, "Invalid: canary-key-1f")) as server:
        server.base_url += f"?{QUERY}"
        async with provider_session(server, raw=True, raw_debug=True) as (session, provider):
            with pytest.raises(Exception, match=r"Invalid: \[REDACTED\]") as raised:
                await provider.complete(CAPITAL)
        findings = await run_doctor(server.base_url)

    events = json.dumps([event.data for event in session.events])
    shown = [events, repr(provider), repr(raised.value), repr(vars(raised.value.__cause__)), str(findings), caplog.text]
    assert [text for text in shown if "canary-key-1f" in text] == []


async def both_errors(provider: VLLMProvider) -> list[str]:
    """The messages of the errors of `list_models()` and `complete()`."""
    with pytest.raises(ConfigurationError) as listing:
        await provider.list_models()
    with pytest.raises(ConfigurationError) as completing:
        await provider.complete(CITIES)
    return [str(listing.value), str(completing.value)]
