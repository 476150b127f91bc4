"""The doctor with servers that answer: each check of the model, and the flag that it names."""

from pathlib import Path

import pytest

from amplifier_module_provider_vllm._doctor.findings import fail, ok
from amplifier_module_provider_vllm._doctor.model_checks import check_vocabulary
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from tests.support.doctor import ANSWER, NOT_STORED, SCHEMA_REPLY, doctor_replies, failures, outcomes, run_doctor
from tests.support.replay import ReplayServer, json_reply
from tests.support.replies import call_item, full_reply
from tests.support.vocabulary import vocabulary_folder

pytestmark = pytest.mark.usefixtures("clean_environment")


async def test_a_complete_server_passes_every_check() -> None:
    async with ReplayServer(*doctor_replies()) as server:
        found = await run_doctor(server.base_url)

    assert failures(found) == {}
    assert list(found) == [
        "reachable", "key", "version", "models", "responses", "round trip", "reasoning",
        "tool call", "parallel calls", "json schema", "usage", "prefix cache", "store",
    ]  # fmt: skip
    assert found["models"] == ok("models", "tiny-qwen3 (4,096 tokens)")
    assert found["tool call"] == ok("tool call", 'get_weather({"city": "Paris"})')
    assert found["parallel calls"] == ok("parallel calls", "2 calls in one turn")
    assert found["json schema"] == ok("json schema", "the reply matches the schema")
    assert found["store"] == ok("store", "off, and not needed")
    assert found["version"].outcome == "note"


async def test_missing_flags_are_named() -> None:
    async with ReplayServer(*doctor_replies("tiny-qwen3-bare", "bare")) as server:
        found = await run_doctor(server.base_url)

    assert failures(found) == {
        "reasoning": "start vLLM with `--reasoning-parser qwen3`",
        "tool call": "start vLLM with `--enable-auto-tool-choice --tool-call-parser hermes`",
    }
    assert found["parallel calls"] == ok("parallel calls", "2 calls in one turn, recovered from the text")


async def test_a_refusal_that_names_a_missing_flag_is_repeated() -> None:
    message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    refusal = json_reply(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}})
    async with ReplayServer(ANSWER, refusal, refusal, SCHEMA_REPLY, ANSWER, ANSWER, ANSWER, NOT_STORED) as server:
        found = await run_doctor(server.base_url)

    flags = "start vLLM with `--enable-auto-tool-choice --tool-call-parser hermes`"
    assert found["tool call"] == fail("tool call", message, flags)
    assert found["parallel calls"].outcome == "note"


async def test_a_check_that_fails_is_reported_and_does_not_end_the_others() -> None:
    async with ReplayServer(ANSWER, always=json_reply(500, {"error": {"message": "boom", "code": 500}})) as server:
        found = await run_doctor(server.base_url)

    assert found["tool call"] == fail("tool call", "ProviderUnavailableError: boom", "look at the end of vLLM's log")
    assert outcomes(found) | {"version": "note"} == {
        **dict.fromkeys(("reachable", "key", "models", "responses", "round trip", "reasoning", "usage"), "ok"),
        **dict.fromkeys(("version", "parallel calls", "json schema", "prefix cache", "store"), "note"),
        "tool call": "fail",
    }


@pytest.mark.parametrize("arguments", ['{"city": NaN}', '{"city": ', '["Paris"]'], ids=["NaN", "cut", "no object"])
async def test_arguments_that_a_session_refuses_fail_the_tool_call(arguments: str) -> None:
    called = full_reply(call_item(arguments))
    async with ReplayServer(ANSWER, called, ANSWER, SCHEMA_REPLY, ANSWER, ANSWER, ANSWER, NOT_STORED) as server:
        found = await run_doctor(server.base_url)

    assert found["tool call"].message == f"get_weather({arguments}) is not a valid call of the tool"
    assert list(failures(found)) == ["tool call"]


async def test_no_request_is_retried() -> None:
    async with ReplayServer(always=json_reply(500, {"error": {"message": "boom", "code": 500}})) as server:
        found = await run_doctor(server.base_url, max_retries=9, startup_timeout=600)

    assert failures(found) == {"round trip": "look at the end of vLLM's log"}
    assert len(server.request_bodies) == 1


async def test_a_missing_store_fails_if_the_config_needs_it() -> None:
    async with ReplayServer(*doctor_replies()) as server:
        found = await run_doctor(server.base_url, enable_state=True)

    assert found["store"] == fail(
        "store",
        "off: the server stores no replies, but `enable_state` needs them",
        "start vLLM with VLLM_ENABLE_RESPONSES_API_STORE=1 in its environment, or leave `enable_state` out",
    )
    assert [request.get("store") for request in server.request_bodies] == [False] * 6 + [True, True]


async def test_a_missing_responses_api_is_distinguished_from_a_missing_model() -> None:
    missing = json_reply(404, {"detail": "Not Found"})
    async with ReplayServer(always=missing) as server:
        without_api = await run_doctor(server.base_url)
        without_model = await run_doctor(server.base_url, default_model="llama")

    assert without_api["responses"].message == "the server has no /v1/responses: Not Found"
    assert without_model["models"].outcome == "note"
    assert failures(without_model) == {"model": "set `default_model` (here: --model) to one that the server has"}


async def test_vocabulary_files_are_found() -> None:
    found = await check_vocabulary(Vocabulary(vocabulary_folder()))

    assert found.outcome == "ok"


async def test_missing_vocabulary_files_are_reported_with_their_folder_and_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)

    found = await check_vocabulary(Vocabulary(tmp_path))

    assert found.outcome == "note"
    files = "o200k_base.tiktoken and cl100k_base.tiktoken"
    assert found.remedy == f"without internet: put {files} into a folder, and name it in TIKTOKEN_ENCODINGS_BASE"
    assert list(tmp_path.iterdir()) == []
