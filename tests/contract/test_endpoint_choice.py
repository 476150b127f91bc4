"""Which endpoint a call asks: the stated one, else /v1/responses, and chat at a server that has none."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from amplifier_core.llm_errors import LLMError, NotFoundError

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.chat_rounds import chunk, stream
from tests.support.exchange import CAPITAL, WEATHER, open_provider
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, Reply, Request, describe, json_reply
from tests.support.wire import HEALTHY, SSE, page

CHAT = Reply(200, SSE, stream(chunk({"content": "Hi"}, "stop")))
FASTAPI = json_reply(404, {"detail": "Not Found"})
LLAMA_CPP = json_reply(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})
GO = Reply(404, {"content-type": "text/plain"}, b"404 page not found\n")
OPENAI = json_reply(404, {"error": {"message": "Invalid URL (POST /v1/responses)", "type": "invalid_request_error"}})
METHOD = json_reply(405, {"detail": "Method Not Allowed"})
UNBUILT = json_reply(501, {"error": {"message": "not implemented", "type": "NotImplementedError", "code": 501}})
AZURE = json_reply(404, {"error": {"code": "404", "message": "Resource not found"}})
GROQ = json_reply(
    404, {"error": {"message": "Unknown request URL: POST /v1/responses. Please check the URL for typos"}}
)
EXPRESS = page(404, "<html><head><title>Error</title></head><body><pre>Cannot POST /v1/responses</pre></body></html>")
NGINX = page(404, "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1></body></html>")
EMPTY = Reply(404, {}, b"")
UNKNOWN_MODEL = json_reply(
    404, {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}}
)
MISSING = {
    "FastAPI": FASTAPI,
    "llama.cpp": LLAMA_CPP,
    "Go": GO,
    "OpenAI": OPENAI,
    "405": METHOD,
    "501": UNBUILT,
    "Azure": AZURE,
    "Groq": GROQ,
    "Express": EXPRESS,
    "nginx": NGINX,
}


def asked(server: ReplayServer) -> list[str]:
    return [request.path for request in server.requests if request.method == "POST"]


@pytest.mark.parametrize("answer", MISSING.values(), ids=list(MISSING))
async def test_a_server_without_responses_is_asked_at_chat_and_that_is_said_once(
    answer: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amplifier_module_provider_vllm")
    async with (
        ReplayServer(answer, always=CHAT) as server,
        open_provider(server.base_url, default_model="m", max_retries=0) as provider,
    ):
        responses = [await provider.complete(CAPITAL) for _ in range(3)]

    assert [response.text for response in responses] == ["Hi"] * 3  # type: ignore[attr-defined]  # an extra field
    assert asked(server) == ["/v1/responses", *["/v1/chat/completions"] * 3]
    told = [record.getMessage() for record in caplog.records if "/v1/chat/completions" in record.getMessage()]
    assert len(told) == 1
    assert "no /v1/responses" in told[0]


async def test_an_empty_404_is_a_missing_path_if_the_server_describes_its_paths_without_it() -> None:
    paths = {"/openapi.json": describe("/v1/chat/completions")}
    async with (
        ReplayServer(EMPTY, always=CHAT, paths=paths) as server,
        open_provider(server.base_url, default_model="m", max_retries=0) as provider,
    ):
        await provider.complete(CAPITAL)

    assert asked(server) == ["/v1/responses", "/v1/chat/completions"]


async def test_an_empty_404_is_a_missing_path_if_the_same_server_has_chat() -> None:
    paths = {"/openapi.json": EMPTY, "/v1/responses": EMPTY}
    async with (
        ReplayServer(always=CHAT, paths=paths) as server,
        open_provider(server.base_url, max_retries=0) as provider,
    ):
        responses = [await provider.complete(CAPITAL) for _ in range(2)]

    assert [response.text for response in responses] == ["Hi"] * 2  # type: ignore[attr-defined]  # an extra field
    probes = ["/v1/chat/completions", "/v1/responses"]
    assert asked(server) == ["/v1/responses", *probes, *["/v1/chat/completions"] * 2]


@pytest.mark.parametrize("chat", [EMPTY, None], ids=["restarting", "back"])
async def test_an_empty_404_of_a_server_that_restarts_is_waited_for(chat: Reply | None) -> None:
    paths = {"/openapi.json": EMPTY} | ({} if chat is None else {"/v1/chat/completions": chat})
    async with (
        ReplayServer(EMPTY, always=HEALTHY[True], paths=paths) as server,
        open_provider(server.base_url, min_retry_delay=0) as provider,
    ):
        await provider.complete(CAPITAL)

    assert [request.path for request in server.requests if b"input" in request.body] == ["/v1/responses"] * 2


@pytest.mark.parametrize(
    "answer", [UNKNOWN_MODEL, json_reply(404, {"error": {"message": "Response with id 'resp_1' not found."}})]
)
async def test_a_404_about_a_model_or_a_reply_is_no_missing_path(answer: Reply) -> None:
    async with (
        ReplayServer(always=answer) as server,
        open_provider(server.base_url, default_model="m", max_retries=0) as provider,
    ):
        with pytest.raises(NotFoundError):
            await provider.complete(CAPITAL)

    assert set(asked(server)) == {"/v1/responses"}


@pytest.mark.parametrize("answer", MISSING.values(), ids=list(MISSING))
@pytest.mark.parametrize(("config", "path"), [({"endpoint": "responses"}, "/v1/responses")])
async def test_a_stated_endpoint_is_never_left(answer: Reply, config: dict[str, Any], path: str) -> None:
    async with (
        ReplayServer(always=answer) as server,
        open_provider(server.base_url, default_model="m", max_retries=0, **config) as provider,
    ):
        with pytest.raises(LLMError):
            await provider.complete(CAPITAL)

    assert asked(server) == [path]


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({}, "/v1/responses"),
        ({"endpoint": "chat"}, "/v1/chat/completions"),
        ({"use_completions": False}, "/v1/chat/completions"),
        ({"use_completions": True, "raw_prompt": True}, "/v1/completions"),
        ({"logprobs": True}, "/v1/chat/completions"),
        ({"raw_prompt": True}, "/v1/completions"),
    ],
)
async def test_the_config_says_which_endpoint_is_asked(config: dict[str, Any], path: str) -> None:
    async with (
        ReplayServer(always=json_reply(400, {"error": {"message": "no", "code": 400}})) as server,
        open_provider(server.base_url, max_retries=0, max_tokens=16, **config) as provider,
    ):
        with pytest.raises(LLMError):
            await provider.complete(CAPITAL)

    assert asked(server) == [path]


async def test_calls_at_once_all_find_their_way_to_chat() -> None:
    def answer(request: Request) -> Reply:
        return FASTAPI if request.path == "/v1/responses" else CHAT

    async with _Routed(answer) as server, open_provider(server.base_url, default_model="m") as provider:
        responses = await asyncio.gather(*(provider.complete(CAPITAL) for _ in range(5)))

    assert [response.text for response in responses] == ["Hi"] * 5  # type: ignore[attr-defined]  # an extra field
    assert asked(server).count("/v1/chat/completions") == 5


@pytest.mark.parametrize("url", ["", "/", "/v1", "/v1/"])
@pytest.mark.parametrize("endpoint", ["responses", "chat", "completions"])
async def test_a_base_url_without_v1_works_for_every_endpoint(endpoint: str, url: str) -> None:
    async with ReplayServer(always=json_reply(400, {"error": {"message": "no", "code": 400}})) as server:
        config = {"endpoint": endpoint, "max_retries": 0, "max_tokens": 16}
        provider = VLLMProvider(server.base_url.removesuffix("/v1") + url, config=config)
        with pytest.raises(LLMError):
            await provider.complete(CAPITAL)
        await provider.close()

    known = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "completions": "/v1/completions"}
    assert asked(server)[-1] == known[endpoint]
    assert [path for path in asked(server) if not path.startswith(("/v1/", "/tokenize", "/detokenize"))] == []


async def test_a_server_that_refuses_token_ids_is_asked_without_them() -> None:
    refusal = json_reply(400, {"error": {"message": "Unknown parameter: 'return_token_ids'.", "code": 400}})
    async with (
        ReplayServer(refusal, always=CHAT) as server,
        open_provider(server.base_url, endpoint="chat", default_model="m", max_tokens=9) as provider,
    ):
        for _ in range(2):
            await provider.complete(CAPITAL)

    assert ["return_token_ids" in body for body in server.request_bodies] == [True, False, False]


async def test_a_server_that_cannot_go_on_by_token_ids_is_asked_for_them_only_once() -> None:
    cut = load_recording("chat/tiny-qwen3", "chat_cut_in_reasoning_stream")
    paths = {"/v1/completions": LLAMA_CPP, "/detokenize": LLAMA_CPP}
    async with (
        ReplayServer(cut, CHAT, cut, CHAT, paths=paths) as server,
        open_provider(server.base_url, endpoint="chat", max_tokens=9) as provider,
    ):
        for _ in range(2):
            await provider.complete(CAPITAL)

    bodies = [request.json for request in server.requests if request.path == "/v1/chat/completions"]
    assert ["return_token_ids" in body for body in bodies] == [True, False, False, False]
    others = [request.path for request in server.requests if request.path != "/v1/chat/completions"]
    assert others == ["/v1/models", "/detokenize", "/detokenize"]


async def test_a_chat_server_without_a_parser_for_calls_gives_them_in_its_text() -> None:
    message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    refusal = json_reply(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}})
    markup = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    written = Reply(200, SSE, stream(chunk({"content": markup}, "stop")))
    async with (
        ReplayServer(refusal, always=written) as server,
        open_provider(server.base_url, endpoint="chat", default_model="tiny-qwen3") as provider,
    ):
        responses = [await provider.complete(WEATHER) for _ in range(2)]

    assert [[call.arguments for call in one.tool_calls or []] for one in responses] == [[{"city": "Paris"}]] * 2
    assert [body.get("tool_choice") for body in server.request_bodies] == [None, "none", "none"]
    assert all(body["tools"] for body in server.request_bodies)


class _Routed(ReplayServer):
    """Answers each request by what it is."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        super().__init__(models=load_recording("tiny-qwen3", "get_v1_models"))
        self._by_request = answer

    def _answer(self, request: Request) -> Reply:
        return self._by_request(request) if request.method == "POST" else super()._answer(request)
