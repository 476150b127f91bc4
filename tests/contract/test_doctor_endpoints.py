"""The doctor with servers that lack endpoints: which one a session would ask, and what to do if there is none."""

from pathlib import Path
from typing import Any

import pytest

from amplifier_module_provider_vllm._config_reading import read_config
from amplifier_module_provider_vllm._doctor.findings import Finding, fail, note, ok
from amplifier_module_provider_vllm._doctor.gateway_checks import check_exact_continuation
from amplifier_module_provider_vllm._doctor.question import without_retries
from amplifier_module_provider_vllm._doctor.reachability import transport_to
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from amplifier_module_provider_vllm._server import Server
from tests.support.doctor import doctor_replies, failures, run_doctor
from tests.support.recordings import Recording, load_recording
from tests.support.replay import ENDPOINTS, NOT_FOUND, ReplayServer, Reply, describe, json_reply

pytestmark = pytest.mark.usefixtures("clean_environment")

RESPONSES, CHAT, COMPLETIONS = ENDPOINTS
RENDERING = ("/tokenize", "/detokenize")
REFUSED = json_reply(400, {"error": {"message": "1 validation error", "type": "BadRequestError", "code": 400}})


def undescribed(*lacking: str, missing: Reply = NOT_FOUND) -> dict[str, Reply]:
    """The answers of a server that has no description, and lacks these paths."""
    return {"/openapi.json": missing, **dict.fromkeys(RENDERING, REFUSED), **dict.fromkeys(lacking, missing)}


def described(*paths: str) -> dict[str, Reply]:
    lacking = [path for path in ENDPOINTS if path not in paths]
    return {"/openapi.json": describe(*paths), **dict.fromkeys(lacking, NOT_FOUND)}


NOWHERE = "http://127.0.0.1:1/encodings"

ALL = ok("endpoints", f"a session asks {RESPONSES}; the server also has {CHAT} and {COMPLETIONS}")


@pytest.mark.parametrize("paths", [described(*ENDPOINTS), undescribed()], ids=["described", "asked"])
async def test_the_endpoints_of_a_server_are_listed(paths: dict[str, Reply]) -> None:
    async with ReplayServer(*doctor_replies(), paths=paths) as server:
        found = await run_doctor(server.base_url)

    assert found["endpoints"] == ALL
    assert failures(found) == {}


async def test_a_description_saves_the_requests() -> None:
    async with ReplayServer(*doctor_replies()) as server:
        await run_doctor(server.base_url)

    assert {} not in server.request_bodies


@pytest.mark.parametrize(
    ("config", "paths", "finding"),
    [
        pytest.param(
            {"endpoint": "responses"}, described(CHAT, COMPLETIONS),
            fail("endpoints", f"a session asks {RESPONSES}, which the server lacks; it has {CHAT} and {COMPLETIONS}",
            "set `endpoint: chat` or `endpoint: completions`"), id="responses",
        ),
        pytest.param(
            {"use_completions": False}, described(RESPONSES),
            fail("endpoints", f"a session asks {CHAT}, which the server lacks; it has {RESPONSES}",
            "set `endpoint: responses`"), id="chat",
        ),
        pytest.param(
            {"raw_prompt": True}, undescribed(COMPLETIONS),
            fail("endpoints", f"a session asks {COMPLETIONS}, which the server lacks; it has {RESPONSES} and {CHAT}",
            "leave `echo` and `raw_prompt` out"), id="completions",
        ),
        pytest.param(
            {}, undescribed(*ENDPOINTS, missing=json_reply(405, {"detail": "Method Not Allowed"})),
            fail("endpoints", f"the server has none of {RESPONSES}, {CHAT} and {COMPLETIONS}",
            "`base_url` (VLLM_BASE_URL) must name the `/v1` of a vLLM server; a gateway must pass these paths on"),
            id="none",
        ),
    ],
)  # fmt: skip
async def test_a_missing_endpoint_ends_the_checks(
    config: dict[str, Any], paths: dict[str, Reply], finding: Finding
) -> None:
    async with ReplayServer(paths=paths) as server:
        found = await run_doctor(server.base_url, **config)

    assert found["endpoints"] == finding
    assert list(found)[-1] == "endpoints"
    assert all(body == {} for body in server.request_bodies)


async def test_a_404_for_want_of_a_model_is_no_missing_path() -> None:
    unnamed = json_reply(404, {"error": {"message": "model '' not found", "type": "not_found_error", "code": 404}})
    async with ReplayServer(paths=undescribed(CHAT, COMPLETIONS) | {RESPONSES: unnamed}) as server:
        found = await run_doctor(server.base_url)

    assert found["endpoints"] == ok("endpoints", f"a session asks {RESPONSES}; the server has no other")


async def test_a_gateway_that_lists_an_endpoint_and_does_not_have_it_fails_the_round_trip() -> None:
    paths = {"/openapi.json": describe(*ENDPOINTS), RESPONSES: NOT_FOUND}
    async with ReplayServer(paths=paths) as server:
        found = await run_doctor(server.base_url, endpoint="responses")

    assert found["round trip"].message == "NotFoundError: Not Found"
    assert failures(found) == {"round trip": "a gateway must pass this path on; or set `endpoint` to another"}


async def test_a_gateway_may_call_v1_something_else() -> None:
    renamed = {f"/api/v3{path.removeprefix('/v1')}": REFUSED for path in ENDPOINTS}
    cards = {"/api/v3/models": json_reply(200, {"object": "list", "data": [{"id": "tiny-qwen3"}]})}
    async with ReplayServer(paths={"/api/v3/openapi.json": NOT_FOUND, **renamed, **cards}) as server:
        found = await run_doctor(server.base_url.replace("/v1", "/api/v3"))

    assert found["endpoints"] == ALL


def chat_replies(*last: Recording | Reply) -> list[Recording | Reply]:
    """The replies of a server that is asked at /v1/chat/completions, and then these."""
    names = ["chat_answer", "chat_tool", "chat_parallel", "chat_fmt_json_schema", "chat_answer", "chat_answer"]
    return [*(load_recording("chat/tiny-qwen3", f"{name}_stream") for name in names), *last]


ANSWER = load_recording("chat/tiny-qwen3", "chat_answer_stream")


async def test_a_server_that_has_only_chat_passes_every_check() -> None:
    async with ReplayServer(*chat_replies(ANSWER, *[REFUSED] * 3), paths=described(CHAT)) as server:
        found = await run_doctor(server.base_url)

    assert failures(found) == {}
    assert found["endpoints"] == note("endpoints", f"a session asks {CHAT}: the server has no {RESPONSES}", CHAT_FIRST)
    assert found["tool call"] == ok("tool call", 'get_weather({"city": "Paris"})')
    assert found["parallel calls"] == ok("parallel calls", "2 calls in one turn")
    assert found["json schema"] == ok("json schema", "the reply matches the schema")
    assert found["parameters"] == ok("parameters", "the server reads `stop`, `seed`, `top_k`")
    assert {request.path for request in server.requests if request.method == "POST"} == {CHAT}


CHAT_FIRST = "set `endpoint: chat`: without it, every session asks /v1/responses first"


async def test_a_server_that_gives_no_token_ids_cannot_continue_every_reply() -> None:
    async with ReplayServer(
        *chat_replies(chat_reply("1, 2, 3", "length"), chat_reply(", 4", "stop"), *[REFUSED] * 3)
    ) as server:
        found = await run_doctor(server.base_url, endpoint="chat")

    assert found["continuation"].outcome == "note"
    assert found["continuation"].message == "the server does not continue a truncated reply by its token ids"
    cut, continued = server.request_bodies[6:8]
    assert cut["return_token_ids"]
    assert continued["messages"] == [*cut["messages"], {"role": "assistant", "content": "1, 2, 3"}]


async def test_the_store_is_not_checked_at_an_endpoint_without_one() -> None:
    async with ReplayServer(*chat_replies(ANSWER, *[REFUSED] * 3)) as server:
        found = await run_doctor(server.base_url, endpoint="chat", enable_state=True)

    assert found["store"] == note(
        "store",
        "`enable_state` has no effect: only /v1/responses keeps replies",
        "leave it out, or set `endpoint: responses`",
    )
    assert len(server.request_bodies) == 10


@pytest.mark.parametrize("group", ["tiny-qwen3", "tiny-qwen3-flags"])
async def test_a_server_that_counts_tokens_at_chat_is_recognised(group: str) -> None:
    case = "chat_stream_usage_tool_stream" if group == "tiny-qwen3" else "flags_answer_stream"
    async with ReplayServer(load_recording(f"chat/{group}", case), always=ANSWER) as server:
        found = await run_doctor(server.base_url, endpoint="chat")

    assert found["usage"].outcome == "ok"


async def test_missing_flags_are_named_at_chat_too() -> None:
    thinking = "<think>\nParis.\n</think>\n\nThe capital of France is Paris."
    markup = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    replies = [chat_reply(thinking), chat_reply(markup)]
    async with ReplayServer(*replies, always=ANSWER) as server:
        found = await run_doctor(server.base_url, endpoint="chat")

    assert failures(found) == {
        "reasoning": "start vLLM with `--reasoning-parser qwen3`",
        "tool call": "start vLLM with `--enable-auto-tool-choice --tool-call-parser hermes`",
    }


def chat_reply(text: str, finish_reason: str = "stop") -> Reply:
    message = {"role": "assistant", "content": text}
    return json_reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]})


HAND_ON = "let the gateway pass it on, or set `endpoint: chat`; a base model needs only `raw_prompt`"


@pytest.mark.parametrize(
    ("paths", "finding"),
    [
        pytest.param(
            [CHAT, COMPLETIONS, *RENDERING],
            ok("rendering", "a conversation becomes a prompt by /tokenize"), id="tokenize",
        ),
        pytest.param(
            [CHAT, COMPLETIONS, "/detokenize"],
            note("rendering", f"the server has no /tokenize: each prompt costs a call of {CHAT} with one token",
            HAND_ON), id="chat",
        ),
        pytest.param(
            [CHAT, COMPLETIONS, "/tokenize"],
            note("rendering", "the server has no /detokenize: a thought that the template opens is text, and truncated"
            " replies are asked for again", HAND_ON), id="no text",
        ),
        pytest.param(
            [COMPLETIONS],
            fail("rendering", f"a conversation becomes a prompt by /tokenize or {CHAT}, which the server lacks",
            HAND_ON), id="nothing",
        ),
    ],
)  # fmt: skip
async def test_what_completions_needs_beside_it_is_checked(paths: list[str], finding: Finding) -> None:
    async with ReplayServer(paths=described(*paths)) as server:
        found = await run_doctor(server.base_url, use_completions=True)

    assert found["rendering"] == finding


async def test_a_raw_prompt_needs_nothing_beside_completions() -> None:
    async with ReplayServer(paths=described(COMPLETIONS)) as server:
        found = await run_doctor(server.base_url, raw_prompt=True)

    assert "rendering" not in found
    assert found["endpoints"] == ok("endpoints", f"a session asks {COMPLETIONS}; the server has no other")


async def test_gpt_oss_is_rendered_by_chat() -> None:
    cards = json_reply(200, {"object": "list", "data": [{"id": "gpt-oss-20b", "max_model_len": 4096}]})
    async with ReplayServer(models=cards, paths=described(COMPLETIONS, *RENDERING)) as server:
        found = await run_doctor(server.base_url, endpoint="completions")

    assert found["rendering"].message == f"a conversation becomes a prompt by {CHAT}, which the server lacks"


async def test_a_missing_vocabulary_is_the_reason_why_gpt_oss_is_not_continued_by_token_ids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)
    cut = load_recording("chat/tiny-gpt-oss", "chat_cut_in_tool_12_stream")

    async with ReplayServer(always=cut, models=load_recording("tiny-gpt-oss", "get_v1_models")) as replay:
        config = without_retries(read_config({"base_url": replay.base_url, "endpoint": "chat"}, {}))
        server = Server(transport_to(config), config, vocabulary=Vocabulary(tmp_path, NOWHERE))
        found = await check_exact_continuation(server)
        await server.close()

    message = "not by token ids: they are read with the vocabulary, which is missing"
    assert found == note("continuation", message, "some replies are asked for again instead; see `vocabulary`")
