"""The doctor with servers that accept it, servers that refuse it, and no server."""

import ssl
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._doctor import reachability
from amplifier_module_provider_vllm._doctor.findings import fail, ok
from tests.support.doctor import doctor_replies, failures, outcomes, run_doctor, serve_bytes
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, json_reply

pytestmark = pytest.mark.usefixtures("clean_environment")

PAGE = {"content-type": "text/html; charset=utf-8"}
SELF_SIGNED = Path(__file__).parent.parent / "support" / "self_signed.pem"


def page(status: int, title: str) -> Reply:
    return Reply(status, PAGE, f"<!doctype html><title>{title}</title><p>secret".encode())


def models(*cards: dict[str, object]) -> Reply:
    return json_reply(200, {"object": "list", "data": list(cards)})


async def test_several_models_need_a_choice() -> None:
    served = models({"id": "a", "max_model_len": 8192}, {"id": "b"})
    async with ReplayServer(models=served) as server:
        found = await run_doctor(server.base_url)

    assert found["models"] == fail(
        "models",
        "the server has several models: a (8,192 tokens), b (window unknown)",
        "set `default_model` to the model to ask; for one run of the doctor, use `--model`",
    )
    assert server.request_bodies == []


async def test_the_only_model_needs_no_choice_even_if_it_is_a_lora() -> None:
    served = models({"id": "lora", "parent": "somewhere-else", "max_model_len": 8192})
    async with ReplayServer(*doctor_replies(), models=served) as server:
        found = await run_doctor(server.base_url)

    assert found["models"] == ok("models", "lora (8,192 tokens)")
    assert server.request_bodies[0]["model"] == "lora"


async def test_a_key_that_is_not_required_is_reported() -> None:
    async with ReplayServer(always=json_reply(404, {"detail": "Not Found"})) as server:
        found = await run_doctor(server.base_url, api_key="sesame")

    assert found["key"] == ok("key", "set (from bundle.yaml), but not required")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({}, "the server requires a key; none is set", id="none"),
        pytest.param({"api_key": "wrong"}, "the server rejects the key (from bundle.yaml)", id="wrong"),
    ],
)
async def test_a_missing_key_is_distinguished_from_a_wrong_one(config: dict[str, str], message: str) -> None:
    async with ReplayServer(models=load_recording("tiny-qwen3-auth", "auth_models_wrong")) as server:
        found = await run_doctor(server.base_url, **config)

    assert found["key"] == fail("key", message, "set `api_key` (VLLM_API_KEY) to the server's `--api-key`")
    assert outcomes(found) == {"reachable": "ok", "key": "fail"}


async def test_a_login_in_front_of_the_server_is_distinguished_from_its_key() -> None:
    async with ReplayServer(models=page(401, "Authorization Required")) as server:
        found = await run_doctor(server.base_url)

    assert "a gateway in front of the server requires a login" in found["key"].message
    assert "`extra_headers`" in failures(found)["key"]


@pytest.mark.parametrize(
    ("answer", "message", "remedy"),
    [
        pytest.param(page(503, "Starting up"), "the server is not ready", "startup_timeout: 600", id="503 page"),
        pytest.param(page(404, "Model is loading"), "the server is not ready", "startup_timeout: 600", id="404 page"),
        pytest.param(page(502, "Bad Gateway"), "but vLLM behind it does not", "start vLLM", id="502 page"),
        pytest.param(page(403, "Just a moment..."), "rejected the request", "`extra_headers`", id="bot check"),
        pytest.param(page(200, "Log in"), "a web page answers at", "are those of vLLM", id="log-in page"),
        pytest.param(
            json_reply(200, {"ok": True}), "returned no list of models: '{\"ok\": true}'", "base_url", id="other API"
        ),
        pytest.param(page(400, "Plain HTTP to HTTPS"), "answers, but not like vLLM", "scheme", id="400 page"),
        pytest.param(json_reply(500, {"error": "boom"}), "answers with an error: boom", "vLLM's log", id="500"),
        pytest.param(json_reply(429, {"error": "slow down"}), "slow down", "higher limit", id="429"),
    ],
)
async def test_a_server_that_is_not_vllm_is_named(answer: Reply, message: str, remedy: str) -> None:
    async with ReplayServer(models=answer) as server:
        found = await run_doctor(server.base_url)

    assert list(found) == ["reachable"]
    assert message in found["reachable"].message
    assert remedy in failures(found)["reachable"]
    assert "secret" not in found["reachable"].message


async def test_a_wrong_path_is_corrected() -> None:
    async with ReplayServer() as server:
        found = await run_doctor(server.base_url + "/chat/completions")

    assert failures(found) == {"reachable": f"set `base_url` (VLLM_BASE_URL) to {server.base_url}"}


async def test_a_gateway_that_lists_no_models_is_checked_anyway() -> None:
    async with ReplayServer(*doctor_replies(), models=json_reply(404, {"detail": "Not Found"})) as server:
        unnamed = await run_doctor(server.base_url)
        named = await run_doctor(server.base_url, default_model="tiny-qwen3")

    assert "`default_model`" in failures(unnamed)["reachable"]
    assert failures(named) == {}
    assert named["models"].outcome == "note"


async def test_a_closed_port_is_reported_with_the_command_that_starts_vllm() -> None:
    async with serve_bytes(b"") as port:
        pass

    found = await run_doctor(f"http://127.0.0.1:{port}")

    assert outcomes(found) == {"reachable": "fail"}
    assert found["reachable"].message == f"nothing listens on 127.0.0.1:{port}"
    assert "`vllm serve MODEL`" in failures(found)["reachable"]
    assert "`startup_timeout`" in failures(found)["reachable"]


@pytest.mark.parametrize("host", ["nothing.invalid", "a..b"])
async def test_an_invalid_host_is_reported(host: str) -> None:
    found = await run_doctor(f"http://{host}:8000")

    assert outcomes(found) == {"reachable": "fail"}
    assert host in found["reachable"].message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "RemoteProtocolError", id="another protocol"),
        pytest.param(b"", "RemoteProtocolError", id="nothing"),
    ],
)
async def test_a_server_without_http_is_reported(answer: bytes, message: str) -> None:
    async with serve_bytes(answer) as port:
        found = await run_doctor(f"http://127.0.0.1:{port}")

    assert message in found["reachable"].message
    assert "`https://`" in failures(found)["reachable"]


async def test_a_silent_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "ANSWER_TIMEOUT", 0.1)

    async with serve_bytes(None) as port:
        found = await run_doctor(f"http://127.0.0.1:{port}")

    assert "accepts connections, but sent nothing" in found["reachable"].message


async def test_https_to_a_server_without_tls_is_reported() -> None:
    async with serve_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        found = await run_doctor(f"https://127.0.0.1:{port}")

    assert failures(found) == {"reachable": "write `http://` in `base_url` (VLLM_BASE_URL) if the server has no TLS"}


async def test_an_unknown_certificate_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    async with ReplayServer(*doctor_replies(), tls=context) as server:
        unknown = await run_doctor(server.base_url)
        monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
        known = await run_doctor(server.base_url)

    assert "self-signed certificate" in unknown["reachable"].message
    assert "SSL_CERT_FILE" in failures(unknown)["reachable"]
    assert failures(known) == {}


async def test_an_unreachable_proxy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_bytes(b"") as port:
        pass
    monkeypatch.setenv("http_proxy", f"http://me:hunter2@127.0.0.1:{port}")

    found = await run_doctor("http://vllm.test:8000")

    remedy = f"set NO_PROXY=vllm.test if the server can be reached without the proxy 127.0.0.1:{port}"
    message = f"the proxy in front of the server: nothing listens on 127.0.0.1:{port}"
    assert found == {"reachable": fail("reachable", message, remedy)}


async def test_a_page_of_a_proxy_is_reported_with_how_to_bypass_it(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<html><title>Access denied by policy</title>"
    head = b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    async with serve_bytes(head % len(body) + body) as port:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
        found = await run_doctor("http://vllm.test:8000")

    assert "Access denied by policy" in found["reachable"].message
    assert f"NO_PROXY=vllm.test if the server can be reached without the proxy 127.0.0.1:{port}" in str(found)
