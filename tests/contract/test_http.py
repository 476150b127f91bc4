"""Our HTTP client behaves like the SDK's own, and delivers the chunks of one read together."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import openai
import pytest
from amplifier_core.message_models import ChatRequest

from amplifier_module_provider_vllm import VLLMProvider
from amplifier_module_provider_vllm._wire.environment import proxy_before
from amplifier_module_provider_vllm._wire.http import http_client
from tests.support.recordings import Recording, load_recording
from tests.support.replay import ReplayServer, reply
from tests.support.requests import HELLO

STREAM = load_recording("tiny-qwen3", "r5_long_whole_stream")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serve_in_one_write(recording: Recording, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that sends every event as its own chunk, all in one write, to any number of requests."""
    events = [event + b"\n\n" for event in recording.body.split(b"\n\n") if event]
    body = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)

    conversations: list[asyncio.Task[None] | None] = []

    async def answer_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):  # the client closed the connection
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                writer.write(HEAD + body + b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer_requests, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*filter(None, conversations))


def sdk(base_url: str) -> openai.AsyncOpenAI:
    client = http_client(base_url, direct=True)
    return openai.AsyncOpenAI(base_url=base_url, api_key="EMPTY", max_retries=0, http_client=client)


async def read_stream(client: openai.AsyncOpenAI) -> list[bytes]:
    async with client.responses.with_streaming_response.create(model="tiny-qwen3", input="Hi", stream=True) as response:
        return [piece async for piece in response.http_response.aiter_bytes()]


async def test_chunks_of_one_read_are_delivered_together() -> None:
    async with serve_in_one_write(STREAM) as port, sdk(f"http://127.0.0.1:{port}/v1") as client:
        first, second = await read_stream(client), await read_stream(client)

    assert b"".join(first) == b"".join(second) == STREAM.body
    assert STREAM.body.count(b"\n\n") > 400
    assert max(len(first), len(second)) < 40


async def test_one_connection_carries_several_requests() -> None:
    async with ReplayServer(reply(STREAM, piece=7), STREAM) as server, sdk(server.base_url) as client:
        first = await read_stream(client)
        models = await client.models.list()
        second = await read_stream(client)

    assert b"".join(first) == b"".join(second) == STREAM.body
    assert [model.id for model in models.data] == ["tiny-qwen3"]


async def test_a_refused_connection_raises_the_sdks_connection_error() -> None:
    async with sdk("http://127.0.0.1:1/v1") as client:
        with pytest.raises(openai.APIConnectionError) as raised:
            await client.models.list()

    assert type(raised.value.__cause__).__name__ == "ConnectError"


async def test_a_silent_server_raises_the_sdks_timeout_error() -> None:
    async with ReplayServer(reply(STREAM, delay_before_headers=5)) as server, sdk(server.base_url) as client:
        with pytest.raises(openai.APITimeoutError) as raised:
            await client.responses.create(model="tiny-qwen3", input="Hi", timeout=0.1)

    assert type(raised.value.__cause__).__name__ == "ReadTimeout"


async def test_a_truncated_body_raises_httpxs_protocol_error() -> None:
    async with ReplayServer(reply(STREAM, cut_at=5000, ending="cut")) as server, sdk(server.base_url) as client:
        with pytest.raises(Exception, match="incomplete chunked read") as raised:
            await read_stream(client)

    assert type(raised.value).__name__ == "RemoteProtocolError"
    assert type(raised.value).__module__.startswith("httpx")


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"http_proxy": "http://proxy:1"}, "http://proxy:1"),
        ({"all_proxy": "http://proxy:1"}, "http://proxy:1"),
        ({"https_proxy": "http://proxy:1"}, None),
        ({"http_proxy": "http://proxy:1", "no_proxy": "gpu-1"}, None),
        ({"http_proxy": "http://proxy:1", "no_proxy": "gpu-2"}, "http://proxy:1"),
    ],
    ids=["none", "http", "all", "https alone", "excepted", "another is excepted"],
)
def test_the_proxy_comes_from_the_environment(
    environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_before("http://gpu-1:8000/v1") == proxy


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_a_tls_server_is_verified_with_the_given_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = tls_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    async with serve_in_one_write(STREAM, tls) as port:
        provider = VLLMProvider(f"https://localhost:{port}/v1", config={"default_model": "tiny-qwen3"})
        response = await provider.complete(ChatRequest(messages=[HELLO]))
        await provider.close()

    assert response.finish_reason == "stop"


def tls_context(folder: Path) -> ssl.SSLContext:
    """A TLS server context, with a certificate for localhost in `cert.pem`."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key.pem")]
    subprocess.run([*command, *names, "-out", str(folder / "cert.pem")], check=True, capture_output=True)  # noqa: S603
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
