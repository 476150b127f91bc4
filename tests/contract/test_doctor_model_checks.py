"""The doctor with servers that answer: each check of the model, and the flag that it names."""

from pathlib import Path
from typing import Any

import pytest

from amplifier_module_provider_vllm._doctor.findings import Finding, fail, note, ok
from amplifier_module_provider_vllm._doctor.model_checks import check_vocabulary
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from tests.support.doctor import (
    ANSWER,
    CONTINUED,
    GATEWAY_CHECKS,
    NOT_STORED,
    REFUSED,
    SCHEMA_REPLY,
    doctor_replies,
    failures,
    outcomes,
    run_doctor,
)
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer, json_reply
from tests.support.replies import call_item, full_reply, message_item
from tests.support.vocabulary import vocabulary_folder

pytestmark = pytest.mark.usefixtures("clean_environment")


async def test_a_complete_server_passes_every_check() -> None:
    async with ReplayServer(*doctor_replies()) as server:
        found = await run_doctor(server.base_url)

    assert failures(found) == {}
    assert list(found) == [
        "reachable", "key", "version", "models", "endpoints", "round trip", "reasoning",
        "tool call", "parallel calls", "json schema", "usage", "history", "prefix cache", "continuation", "parameters",
    ]  # fmt: skip
    assert found["models"] == ok("models", "tiny-qwen3 (4,096 tokens)")
    assert found["tool call"] == ok("tool call", 'get_weather({"city": "Paris"})')
    assert found["parallel calls"] == ok("parallel calls", "2 calls in one turn")
    assert found["json schema"] == ok("json schema", "the reply matches the schema")
    assert found["continuation"] == ok("continuation", "the server continues a truncated reply")
    assert found["parameters"] == ok("parameters", "the server reads `stop`, `seed`, `top_k`")
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
    async with ReplayServer(ANSWER, refusal, refusal, SCHEMA_REPLY, ANSWER, ANSWER, *GATEWAY_CHECKS) as server:
        found = await run_doctor(server.base_url)

    flags = "start vLLM with `--enable-auto-tool-choice --tool-call-parser hermes`"
    assert found["tool call"] == fail("tool call", message, flags)
    assert found["parallel calls"].outcome == "note"


async def test_a_check_that_fails_is_reported_and_does_not_end_the_others() -> None:
    async with ReplayServer(ANSWER, always=json_reply(500, {"error": {"message": "boom", "code": 500}})) as server:
        found = await run_doctor(server.base_url)

    assert found["tool call"] == fail("tool call", "ProviderUnavailableError: boom", "look at the end of vLLM's log")
    assert outcomes(found) | {"version": "note"} == {
        **dict.fromkeys(("reachable", "key", "models", "endpoints", "round trip", "reasoning", "usage"), "ok"),
        **dict.fromkeys(("version", "parallel calls", "json schema", "history"), "note"),
        **dict.fromkeys(("prefix cache", "continuation", "parameters"), "note"),
        "tool call": "fail",
    }


@pytest.mark.parametrize("arguments", ['{"city": NaN}', '{"city": ', '["Paris"]'], ids=["NaN", "cut", "no object"])
async def test_arguments_that_a_session_refuses_fail_the_tool_call(arguments: str) -> None:
    called = full_reply(call_item(arguments))
    async with ReplayServer(ANSWER, called, ANSWER, SCHEMA_REPLY, ANSWER, ANSWER, *GATEWAY_CHECKS) as server:
        found = await run_doctor(server.base_url)

    assert found["tool call"].message == f"get_weather({arguments}) is not a valid call of the tool"
    assert list(failures(found)) == ["tool call"]


async def test_no_request_is_retried() -> None:
    async with ReplayServer(always=json_reply(500, {"error": {"message": "boom", "code": 500}})) as server:
        found = await run_doctor(server.base_url, max_retries=9, startup_timeout=600)

    assert failures(found) == {"round trip": "look at the end of vLLM's log"}
    assert len(server.request_bodies) == 1


async def test_a_gateway_that_refuses_to_continue_a_reply_is_reported() -> None:
    """agentic-api 0.9.0 for a message with status "incomplete"."""
    reason = "json error: data did not match any variant of untagged enum ResponsesInput at line 1 column 389"
    refused = json_reply(400, {"error": {"message": reason, "type": "invalid_request_error"}})
    replies = [refused if reply is CONTINUED else reply for reply in doctor_replies()]
    async with ReplayServer(*replies) as server:
        found = await run_doctor(server.base_url)

    remedy = "raise `max_tokens`, so that fewer are truncated, or set `base_url` to vLLM itself"
    assert failures(found) == {"continuation": remedy}
    assert found["continuation"].message == f"the server refuses to continue a truncated reply: {reason}"


@pytest.mark.parametrize("enable_state", [False, True], ids=["stateless", "stored"])
async def test_continuation_is_checked_with_the_request_that_a_session_sends(enable_state: bool) -> None:
    async with ReplayServer(*doctor_replies(), ANSWER, NOT_STORED) as server:
        await run_doctor(server.base_url, enable_state=enable_state)

    (body,) = [body for body in server.request_bodies if "Count from 1 to 20." in str(body)]
    question, reply = body["input"]
    assert (question["role"], reply["role"], reply["content"][0]["text"]) == ("user", "assistant", "1, 2, 3")
    assert (reply["status"], body["store"]) == ("in_progress", enable_state)


async def test_continuation_is_not_checked_if_no_session_continues() -> None:
    async with ReplayServer(*(reply for reply in doctor_replies() if reply is not CONTINUED)) as server:
        found = await run_doctor(server.base_url, max_continuations=0)

    assert "continuation" not in found
    assert failures(found) == {}


async def test_parameters_that_the_server_ignores_are_reported() -> None:
    """agentic-api 0.9.0 forwards neither of them for `store: true`."""
    *replies, stop, seed, top_k = doctor_replies()
    config = {"top_kk": 20, "min_p": 0.1, "temperature": 0.5, "tools": [{"type": "web_search"}]}
    async with ReplayServer(*replies, ANSWER, seed, top_k, ANSWER, REFUSED) as server:
        found = await run_doctor(server.base_url, extra_request_params=config)

    assert stop is REFUSED
    assert found["parameters"].outcome == "note"
    assert found["parameters"].message == "the server ignores `stop`, `top_kk`"
    asked = [body for body in server.request_bodies if "Hello." in str(body["input"])]
    assert [[key for key in body if body[key] == [[]]] for body in asked] == [
        ["stop"], ["seed"], ["top_k"], ["top_kk"], ["min_p"],
    ]  # fmt: skip


async def test_no_stored_reply_is_asked_for_unless_the_config_enables_state() -> None:
    """LiteLLM answers nobody for seconds after a vLLM without a store was asked for a stored reply."""
    async with ReplayServer(*doctor_replies()) as server:
        found = await run_doctor(server.base_url)

    assert {body["store"] for body in server.request_bodies} == {False}
    assert not any("previous_response_id" in body for body in server.request_bodies)
    assert not {"store", "stored turns"} & found.keys()


async def test_a_missing_store_fails_if_the_config_needs_it() -> None:
    async with ReplayServer(*doctor_replies(), ANSWER, NOT_STORED) as server:
        found = await run_doctor(server.base_url, enable_state=True)

    remedy = "start vLLM with VLLM_ENABLE_RESPONSES_API_STORE=1 in its environment, or leave `enable_state` out"
    assert found["store"] == fail("store", "off: the server stores no replies, but `enable_state` needs them", remedy)
    assert failures(found) == {"store": remedy}
    assert [request["store"] for request in server.request_bodies][-2:] == [True, True]


async def test_a_store_that_fails_is_reported() -> None:
    broken = json_reply(503, {"error": {"message": "database is locked", "code": 503}})
    async with ReplayServer(*doctor_replies(), broken) as server:
        found = await run_doctor(server.base_url, enable_state=True)

    assert found["store"] == fail(
        "store", "ProviderUnavailableError: database is locked", "look at the end of vLLM's log"
    )
    assert "stored turns" not in found


async def test_a_conversation_with_tools_that_cannot_be_stored_twice_is_reported() -> None:
    """agentic-api 0.9.0: the ids of items are unique for ever."""
    error = {"message": "failed to persist response", "type": "server_error", "code": "server_error"}
    not_persisted = json_reply(500, {"error": error})
    async with ReplayServer(*doctor_replies(), ANSWER, ANSWER, ANSWER, not_persisted) as server:
        found = await run_doctor(server.base_url, enable_state=True)

    assert failures(found) == {"stored turns": "leave `enable_state` out, or set `base_url` to vLLM itself"}
    assert "failed to persist response" in found["stored turns"].message
    first, second = server.request_bodies[-2:]
    kinds = ["message", "reasoning", "function_call", "function_call_output", "message"]
    assert [item["type"] for item in first["input"]] == [item["type"] for item in second["input"]] == kinds
    assert (first["store"], second["store"]) == (True, True)


async def test_a_server_that_keeps_conversations_passes() -> None:
    async with ReplayServer(*doctor_replies(), ANSWER, ANSWER, ANSWER, ANSWER) as server:
        found = await run_doctor(server.base_url, enable_state=True)

    assert failures(found) == {}
    calls = "turns with tool calls are sent in full: vLLM does not store the calls"
    assert found["store"] == ok("store", f"on, and used; {calls}")
    assert found["stored turns"] == ok("stored turns", "a conversation with tools is stored, twice")


async def test_a_store_that_keeps_calls_is_not_said_to_lose_them() -> None:
    """agentic-api 0.9.0 has a store of its own, and response ids by which it is known."""
    kept = full_reply(message_item("Paris."), response_id="resp_0197a0de-5c4f-7b52-a7a0-2f6b1f2a9c11")
    async with ReplayServer(*doctor_replies(), kept, kept, ANSWER, ANSWER) as server:
        found = await run_doctor(server.base_url, enable_state=True)

    assert found["store"] == ok("store", "on, and used")


async def test_calls_that_are_lost_only_with_state_are_reported() -> None:
    """agentic-api 0.9.0 turns parallel calls off for `store: true`."""
    replies = list(doctor_replies())
    (two,) = [
        place for place, reply in enumerate(replies) if reply == load_recording("tiny-qwen3", "r4_parallel_stream")
    ]
    replies.insert(two, full_reply(call_item('{"city": "Paris"}')))
    async with ReplayServer(*replies, ANSWER, NOT_STORED) as server:
        found = await run_doctor(server.base_url, enable_state=True)

    assert found["parallel calls"] == note(
        "parallel calls",
        "2 calls in one turn without `enable_state`, 1 with it",
        "a gateway drops the others: leave `enable_state` out, or set `base_url` to vLLM itself",
    )


TOO_FEW = "4,096 tokens are too few for context-simple: it keeps everything until the window is full"


@pytest.mark.parametrize(
    ("window", "config", "finding"),
    [
        pytest.param(
            262_144, {"max_output_tokens": 16_384},
            ok("history", "a session keeps about 249,056 of 262,144 tokens, 16,384 are left for a reply"), id="large",
        ),
        pytest.param(
            4_096, {}, note("history", TOO_FEW, "start vLLM with a longer `--max-model-len`: a session needs"
            " room for its tools and its history"), id="small",
        ),
        pytest.param(
            262_144, {"context_window": 4_096}, note("history", TOO_FEW, "raise `context_window`"), id="lowered",
        ),
        pytest.param(
            None, {"context_window": 10_000, "max_output_tokens": 1_000},
            ok("history", "a session keeps about 4,604 of 10,000 tokens, 1,000 are left for a reply"), id="configured",
        ),
        pytest.param(
            None, {}, note("history", "the window is unknown; 128,000 tokens are assumed",
            "set `context_window` (VLLM_CONTEXT_WINDOW) to the model's window"), id="unknown",
        ),
    ],
)  # fmt: skip
async def test_the_history_that_a_session_can_keep_is_told(
    window: int | None, config: dict[str, Any], finding: Finding
) -> None:
    cards = json_reply(200, {"object": "list", "data": [{"id": "tiny-qwen3", "max_model_len": window}]})
    async with ReplayServer(*doctor_replies(), models=cards) as server:
        found = await run_doctor(server.base_url, **config)

    assert found["history"] == finding


async def test_a_missing_model_is_distinguished_from_a_missing_endpoint() -> None:
    async with ReplayServer(always=json_reply(404, {"detail": "Not Found"})) as server:
        found = await run_doctor(server.base_url, default_model="llama")

    assert failures(found) == {
        "model": "set `default_model` to the model to ask; for one run of the doctor, use `--model`"
    }
    assert found["models"] == ok("models", "tiny-qwen3 (4,096 tokens)")


async def test_a_model_that_answers_without_being_listed_is_a_note() -> None:
    async with ReplayServer(*doctor_replies()) as server:
        found = await run_doctor(server.base_url, default_model="alias")

    assert found["models"] == ok("models", "tiny-qwen3 (4,096 tokens)")
    assert found["model"] == note(
        "model",
        "alias answers, but is not listed: its limits are unknown",
        "set `context_window` (VLLM_CONTEXT_WINDOW) to the model's window",
    )
    assert failures(found) == {}


async def test_vocabulary_files_are_found() -> None:
    found = await check_vocabulary(Vocabulary(vocabulary_folder()), "counts")

    assert found.outcome == "ok"


async def test_missing_vocabulary_files_are_reported_with_their_folder_and_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)

    found = await check_vocabulary(Vocabulary(tmp_path), "counts")

    assert found.outcome == "note"
    files = "o200k_base.tiktoken and cl100k_base.tiktoken"
    assert found.remedy == f"without internet: put {files} into a folder, and name it in TIKTOKEN_ENCODINGS_BASE"
    assert list(tmp_path.iterdir()) == []
