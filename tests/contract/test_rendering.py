"""A conversation becomes the token ids of a prompt by the server's own template, wherever the server gives them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from amplifier_core.llm_errors import (
    ConfigurationError,
    ContextLengthError,
    NotFoundError,
    ProviderUnavailableError,
)
from amplifier_core.message_models import ResponseFormatJsonSchema

from amplifier_module_provider_vllm._harmony.vocabulary import shared_vocabulary
from tests.support.exchange import CAPITAL, WEATHER, block_contents, open_provider
from tests.support.recordings import Recording, load_recording
from tests.support.replay import NOT_FOUND, ReplayServer, Reply, Request, json_reply
from tests.support.vocabulary import vocabulary_folder
from tests.support.wire import refusal

CHAT = "/v1/chat/completions"
MODELS = ("tiny-qwen3", "tiny-gpt-oss")
THOUGHT = "I should look up the weather in Paris."
SUNNY = ("text", "It is sunny.")
PROMPT = [11, 12, 13]
TOKENIZED = json_reply(200, {"count": 3, "max_model_len": 4096, "tokens": PROMPT, "token_strs": None})
BY_CHAT = json_reply(200, {"id": "c", "choices": [{"index": 0, "token_ids": [9]}], "prompt_token_ids": PROMPT})
NO_TEMPLATE = refusal(
    400,
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the"
    " tokenizer does not define one.",
)
UNKNOWN_MODEL = load_recording("chat/tiny-qwen3", "comp_unknown_model")
NO_WINDOW = json_reply(200, {"data": [{"id": "tiny-qwen3"}]})


@pytest.fixture(autouse=True)
def _vocabulary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))
    shared_vocabulary.cache_clear()
    yield
    shared_vocabulary.cache_clear()


def recording(model: str, case: str) -> Recording:
    return load_recording(f"chat/{model}", case)


def written(text: str, ids: list[int] | None = None) -> Reply:
    """A whole reply of the model."""
    choice = {"index": 0, "text": text, "finish_reason": "stop", "token_ids": ids or [1], "prompt_token_ids": PROMPT}
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    return json_reply(200, {"id": "cmpl-1", "model": "m", "choices": [choice], "usage": usage})


SAID = written("It is sunny.")


def prompt_end(text: str) -> Reply:
    return json_reply(200, {"prompt": text})


@asynccontextmanager
async def asked(*replies: Reply | Recording, model: str = "tiny-qwen3", **served: Any) -> AsyncIterator[ReplayServer]:
    """A server that says `replies` at /v1/completions, and what `served` has at other paths."""
    paths = served.pop("paths", {})
    models = served.pop("models", load_recording(model, "get_v1_models"))
    async with ReplayServer(*replies, paths=paths, models=models) as server:
        yield server


def provider_at(server: ReplayServer, **config: Any) -> Any:
    return open_provider(server.base_url, **{"endpoint": "completions", "max_retries": 0, **config})


def bodies(server: ReplayServer, path: str) -> list[dict[str, Any]]:
    return [request.json for request in server.requests if request.path == path]


def posted(server: ReplayServer) -> list[str]:
    return [request.path for request in server.requests if request.method == "POST"]


@pytest.mark.parametrize("case", ["via_completions_tool_stream", "via_completions_tool"], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", MODELS)
async def test_a_tool_turn_at_completions_is_that_of_a_chat(model: str, case: str) -> None:
    rendering = {"/tokenize": recording(model, "tokenize_chat"), CHAT: recording(model, "via_render_by_chat_1_token")}
    prompt = recording(model, "via_render_by_chat_1_token").json["prompt_token_ids"]
    ended = {"/detokenize": prompt_end("<|im_start|>assistant\n")}

    async with (
        asked(recording(model, case), model=model, paths=rendering | ended) as server,
        provider_at(server, use_streaming=case.endswith("stream")) as provider,
    ):
        response = await provider.complete(WEATHER)

    (body,) = bodies(server, "/v1/completions")
    assert body["prompt"] == prompt
    assert block_contents(response) == [("thinking", THOUGHT), ("get_weather", {"city": "Paris"})]
    assert (response.finish_reason, response.degradation) == ("tool_calls", None)


async def test_a_template_is_rendered_at_tokenize() -> None:
    paths = {"/tokenize": TOKENIZED, "/detokenize": prompt_end("assistant\n")}

    async with asked(SAID, paths=paths) as server, provider_at(server, reasoning_effort="none") as provider:
        response = await provider.complete(WEATHER)

    (tokenized,) = bodies(server, "/tokenize")
    assert posted(server) == ["/tokenize", "/detokenize", "/v1/completions"]
    assert tokenized["messages"] == [{"role": "user", "content": "What is the weather in Paris?"}]
    assert [tool["function"]["name"] for tool in tokenized["tools"]] == ["get_weather"]
    assert tokenized["chat_template_kwargs"]["enable_thinking"] is False
    assert bodies(server, "/v1/completions")[0]["prompt"] == PROMPT
    assert block_contents(response) == [SUNNY]


@pytest.mark.parametrize(
    "answer",
    [NOT_FOUND, refusal(400), json_reply(200, {"count": 3})],
    ids=["missing", "refused", "without ids"],
)
async def test_without_tokenize_a_chat_of_one_token_renders(answer: Reply) -> None:
    paths = {"/tokenize": answer, CHAT: BY_CHAT, "/detokenize": prompt_end("")}

    async with asked(SAID, paths=paths) as server, provider_at(server) as provider:
        response = await provider.complete(WEATHER)

    (chat,) = bodies(server, CHAT)
    assert {key: chat[key] for key in ("max_completion_tokens", "return_token_ids", "stream")} == {
        "max_completion_tokens": 1,
        "return_token_ids": True,
        "stream": False,
    }
    assert bodies(server, "/v1/completions")[0]["prompt"] == PROMPT
    assert block_contents(response) == [SUNNY]


async def test_gpt_oss_is_rendered_by_a_chat_of_one_token() -> None:
    model = "tiny-gpt-oss"
    paths = {CHAT: recording(model, "via_render_by_chat_1_token")}

    async with (
        asked(recording(model, "via_completions_tool"), model=model, paths=paths) as server,
        provider_at(server, reasoning_effort="high") as provider,
    ):
        await provider.complete(WEATHER)

    assert posted(server) == [CHAT, "/v1/completions"]
    assert bodies(server, CHAT)[0]["reasoning_effort"] == "high"


@pytest.mark.parametrize(
    "chat", [NOT_FOUND, json_reply(200, {"id": "c", "choices": []})], ids=["no chat", "no token ids"]
)
async def test_a_server_that_gives_no_token_ids_is_told_with_the_ways_out(chat: Reply) -> None:
    async with asked(paths={CHAT: chat, "/tokenize": NOT_FOUND}) as server, provider_at(server) as provider:
        with pytest.raises(ConfigurationError, match="set `endpoint: chat`, or `raw_prompt: true`") as raised:
            await provider.complete(WEATHER)

    assert not raised.value.retryable
    assert "/v1/completions" not in posted(server)


async def test_a_model_that_the_server_lacks_is_named_with_those_that_it_has() -> None:
    paths = {CHAT: UNKNOWN_MODEL, "/tokenize": UNKNOWN_MODEL}

    async with asked(paths=paths) as server, provider_at(server, default_model="nope") as provider:
        with pytest.raises(NotFoundError, match="The server has: tiny-qwen3"):
            await provider.complete(WEATHER)


async def test_a_server_that_is_busy_while_it_renders_is_asked_again() -> None:
    async with (
        asked(paths={"/tokenize": refusal(503)}) as server,
        provider_at(server, max_retries=1, min_retry_delay=0.01) as provider,
    ):
        with pytest.raises(ProviderUnavailableError):
            await provider.complete(WEATHER)

    assert posted(server) == ["/tokenize", "/tokenize"]


async def test_a_server_that_restarts_while_it_renders_is_asked_again() -> None:
    empty = Reply(404, {}, b"")

    async with (
        asked(paths={"/tokenize": empty, CHAT: empty}) as server,
        provider_at(server, max_retries=1, min_retry_delay=0.01) as provider,
    ):
        with pytest.raises(ProviderUnavailableError, match="restarts"):
            await provider.complete(WEATHER)

    assert posted(server) == ["/tokenize", CHAT] * 2


async def test_a_gateway_with_an_empty_404_for_tokenize_is_asked_at_chat() -> None:
    paths = {"/tokenize": Reply(404, {}, b""), CHAT: BY_CHAT, "/detokenize": prompt_end("")}

    async with asked(SAID, paths=paths) as server, provider_at(server) as provider:
        response = await provider.complete(WEATHER)

    assert bodies(server, "/v1/completions")[0]["prompt"] == PROMPT
    assert block_contents(response) == [SUNNY]


@pytest.mark.parametrize("refusal_", [refusal(403), refusal(401)], ids=["403", "401"])
async def test_a_gateway_that_forbids_tokenize_is_asked_at_chat(refusal_: Reply) -> None:
    paths = {"/tokenize": refusal_, CHAT: BY_CHAT, "/detokenize": refusal_}

    async with asked(SAID, paths=paths) as server, provider_at(server) as provider:
        response = await provider.complete(WEATHER)

    assert block_contents(response) == [SUNNY]


async def test_the_chat_that_renders_has_no_field_that_its_one_token_would_break() -> None:
    """Seen on vLLM 0.32: `min_tokens` above `max_tokens`, and stream options without a stream, are refused."""
    extra = {"min_tokens": 5, "n": 2, "stream_options": {"continuous_usage_stats": True}, "cache_salt": "s"}
    paths = {"/tokenize": NOT_FOUND, CHAT: BY_CHAT, "/detokenize": prompt_end("")}

    async with asked(SAID, paths=paths) as server, provider_at(server, extra_request_params=extra) as provider:
        await provider.complete(WEATHER)

    (chat,) = bodies(server, CHAT)
    assert chat.keys() & extra.keys() == {"cache_salt"}
    assert bodies(server, "/v1/completions")[0]["min_tokens"] == 5


async def test_the_headers_of_a_call_reach_the_server_that_renders() -> None:
    """A router sends the requests of one session to one server by a header."""
    paths = {"/tokenize": TOKENIZED, "/detokenize": prompt_end("")}

    async with asked(SAID, paths=paths) as server, provider_at(server) as provider:
        await provider.complete(WEATHER, extra_headers={"X-Session-Id": "s1"})

    sent: list[Request] = [request for request in server.requests if request.method == "POST"]
    assert [request.headers.get("x-session-id") for request in sent] == ["s1"] * 3


@pytest.mark.parametrize("refused_at", ["/tokenize", CHAT])
async def test_a_model_without_a_template_gets_the_last_user_message_as_a_raw_prompt(refused_at: str) -> None:
    paths = {"/tokenize": NOT_FOUND, CHAT: NOT_FOUND} | {refused_at: NO_TEMPLATE}

    async with asked(written(" Paris."), paths=paths) as server, provider_at(server) as provider:
        response = await provider.complete(CAPITAL)

    (body,) = bodies(server, "/v1/completions")
    assert body["prompt"] == "What is the capital of France?"
    assert block_contents(response) == [("text", " Paris.".strip())]
    assert response.degradation is not None
    assert (response.degradation.requested, response.degradation.actual) == (
        "the model's chat template",
        "a raw prompt",
    )


async def test_a_schema_that_the_rendering_call_is_refused_for_is_dropped() -> None:
    model = "tiny-gpt-oss"
    refused = recording(model, "chat_fmt_schema_bad")
    replies = (refused, recording(model, "via_render_by_chat_1_token"), recording(model, "via_completions_tool"))
    bound = ResponseFormatJsonSchema(json_schema={"name": "city", "schema": {"type": "wat"}})

    async with asked(*replies, model=model) as server, provider_at(server, use_streaming=False) as provider:
        response = await provider.complete(WEATHER.model_copy(update={"response_format": bound}))

    first, second = bodies(server, CHAT)
    assert second == {key: value for key, value in first.items() if key != "response_format"}
    assert block_contents(response)[-1] == ("get_weather", {"city": "Paris"})
    assert response.degradation is not None
    assert (response.degradation.requested, response.degradation.actual) == ("json_schema", "text")


@pytest.mark.parametrize("case", ["comp_text_stream", "comp_text"], ids=["streamed", "whole"])
async def test_a_raw_prompt_is_sent_without_any_rendering(case: str) -> None:
    async with (
        asked(recording("tiny-qwen3", case)) as server,
        provider_at(server, raw_prompt=True, use_streaming=case.endswith("stream")) as provider,
    ):
        response = await provider.complete(CAPITAL)

    assert posted(server) == ["/v1/completions"]
    assert bodies(server, "/v1/completions")[0]["prompt"] == "What is the capital of France?"
    assert response.text == " Paris09 is Paris."


@pytest.mark.parametrize(
    ("end", "kinds"),
    [
        ("<|im_start|>assistant\n<think>\n", ["thinking", "text"]),
        ("<think>\n\n</think>\n\n", ["text"]),
        ("assistant\n", ["text"]),
    ],
    ids=["open", "closed", "none"],
)
async def test_a_prompt_that_opens_a_thought_is_known_by_its_end(end: str, kinds: list[str]) -> None:
    said = "It is sunny.\n</think>\n\nYes." if "thinking" in kinds else "Yes."
    paths = {"/tokenize": TOKENIZED, "/detokenize": prompt_end(end)}

    async with asked(written(said), written(said), paths=paths) as server, provider_at(server) as provider:
        await provider.complete(CAPITAL)
        response = await provider.complete(CAPITAL)

    assert [kind for kind, _ in block_contents(response)] == kinds
    assert bodies(server, "/detokenize") == [{"model": "tiny-qwen3", "tokens": PROMPT}]


async def test_ends_of_prompts_are_not_remembered_for_ever() -> None:
    """Some templates end with words of the conversation, so that each prompt has an end of its own."""
    ends = [*range(101), 0]

    async with (
        asked(*[SAID] * len(ends), paths={"/detokenize": prompt_end("")}) as server,
        provider_at(server) as provider,
    ):
        for end in ends:
            server.paths["/tokenize"] = json_reply(200, {"tokens": [end]})
            await provider.complete(CAPITAL)

    assert [body["tokens"][0] for body in bodies(server, "/detokenize")] == ends


async def test_without_detokenize_a_reply_begins_outside_of_a_thought() -> None:
    async with asked(SAID, paths={"/tokenize": TOKENIZED}) as server, provider_at(server) as provider:
        response = await provider.complete(CAPITAL)

    assert block_contents(response) == [SUNNY]


async def test_a_server_without_a_window_in_its_list_is_asked_for_it() -> None:
    """Without a cap /v1/completions ends a reply after 16 tokens."""
    paths = {"/tokenize": TOKENIZED, "/detokenize": prompt_end("")}

    async with asked(SAID, SAID, paths=paths, models=NO_WINDOW) as server, provider_at(server) as provider:
        await provider.complete(CAPITAL)
        await provider.complete(CAPITAL)

    assert [body["max_tokens"] for body in bodies(server, "/v1/completions")] == [2048, 2048]
    assert [body.get("prompt") for body in bodies(server, "/tokenize")] == [None, ".", None]


async def test_a_cap_is_sent_even_if_nobody_knows_the_window() -> None:
    async with asked(SAID, models=NO_WINDOW) as server, provider_at(server, raw_prompt=True) as provider:
        await provider.complete(CAPITAL)

    assert bodies(server, "/v1/completions")[0]["max_tokens"] > 16


@pytest.mark.parametrize("case", ["comp_overflow", "comp_overflow_ids"])
async def test_a_prompt_that_fills_the_window_is_too_long(case: str) -> None:
    """vLLM refuses a prompt of ids by the cap for which it has left no room."""
    async with asked(recording("tiny-qwen3", case)) as server, provider_at(server, raw_prompt=True) as provider:
        with pytest.raises(ContextLengthError):
            await provider.complete(CAPITAL)
