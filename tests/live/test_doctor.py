"""The doctor with real vLLM: with all flags, without each flag, with a key, and not running."""

import ast
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from amplifier_module_provider_vllm._cli import main
from amplifier_module_provider_vllm._doctor.parsers import FAMILIES
from tests.live.endpoints import with_token_ids
from tests.live.servers import KEY
from tests.rig.environment import ensure_environment
from tests.rig.replies import PATHS, text_of
from tests.rig.server import LiveServer
from tests.rig.tap import Tap, open_tap
from tests.support.exchange import without_control_tokens

pytestmark = pytest.mark.live

REASONING_FLAG = "start vLLM with `--reasoning-parser qwen3`"
TOOL_FLAGS = "start vLLM with `--enable-auto-tool-choice --tool-call-parser hermes`"


class Doctor:
    """Runs the command and keeps its JSON report."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self._folder = folder
        self.status = -1
        self.found: dict[str, dict[str, str]] = {}

    def ask(self, url: str, key: str | None = None, **config: object) -> None:
        if key is not None:
            self._monkeypatch.setenv("VLLM_API_KEY", key)
            config["api_key"] = "${VLLM_API_KEY}"
        file = self._folder / "bundle.json"
        plan = {"providers": [{"module": "provider-vllm", "config": {"base_url": url, **config}}]}
        file.write_text(json.dumps(plan))
        self.status = main(["doctor", "--config", str(file), "--json"])
        finding: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        (provider,) = finding["providers"]
        self.found = {finding["check"]: finding for finding in provider["findings"]}

    @property
    def failures(self) -> dict[str, str]:
        return {check: one["remedy"] for check, one in self.found.items() if one["outcome"] == "fail"}

    def finding(self, check: str) -> tuple[str, str]:
        return self.found[check]["outcome"], self.found[check]["message"]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    # The findings about the vocabulary are those of this folder, not of the user's.
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(tmp_path))
    return Doctor(capsys, monkeypatch, tmp_path)


def test_a_server_with_the_right_flags_passes(server: LiveServer, doctor: Doctor) -> None:
    with open_tap(server.base_url) as tap:
        doctor.ask(tap.base_url)

    assert doctor.failures == {}
    assert doctor.status == 0
    assert doctor.finding("version") == ("ok", "vLLM 0.32.0")
    assert doctor.finding("models") == ("ok", f"{server.model} (4,096 tokens)")
    assert doctor.finding("reasoning") == ("ok", "arrives as reasoning")
    assert doctor.finding("tool call") == ("ok", 'get_weather({"city": "Paris"})')
    assert doctor.found["json schema"]["outcome"] == schema_outcome(tap)
    assert doctor.finding("prefix cache")[0] == "ok"
    assert doctor.finding("history")[0] == "note"
    assert doctor.finding("parameters") == ("ok", "the server reads `stop`, `seed`, `top_k`")
    assert not {"store", "stored turns"} & doctor.found.keys()
    assert ("continuation" in doctor.found) == (server.model == "tiny-qwen3")
    assert ("vocabulary" in doctor.found) == (server.model == "tiny-gpt-oss")


@with_token_ids
def test_a_server_passes_at_the_other_endpoints(server: LiveServer, doctor: Doctor, endpoint: str) -> None:
    doctor.ask(server.base_url, endpoint=endpoint)

    assert doctor.failures == {}
    assert doctor.status == 0
    assert doctor.finding("endpoints")[1].startswith(f"a session asks {PATHS[endpoint]}; ")
    assert doctor.finding("reasoning") == ("ok", "arrives as reasoning")
    assert doctor.finding("tool call") == ("ok", 'get_weather({"city": "Paris"})')
    assert doctor.finding("prefix cache")[0] == "ok"
    assert doctor.finding("continuation") == ("ok", "the server continues a truncated reply by its token ids")
    assert doctor.finding("parameters") == ("ok", "the server reads `stop`, `seed`, `top_k`")
    assert ("rendering" in doctor.found) == (endpoint == "completions")


def schema_outcome(tap: Tap) -> str:
    """The outcome for the server's own reply, without the control token that vLLM may leave in it."""
    (text,) = [text_of(reply) for asked, reply in tap.exchanges if "text" in asked]
    return "ok" if is_a_city(without_control_tokens(text)) else "note"


def is_a_city(text: str) -> bool:
    try:
        given = json.loads(text)
    except ValueError:
        return False
    return isinstance(given, dict) and given.keys() == {"city", "population"}


def test_parallel_calls_are_distinguished_from_sequential_ones(
    qwen: LiveServer, gpt_oss: LiveServer, doctor: Doctor
) -> None:
    doctor.ask(qwen.base_url)
    assert doctor.finding("parallel calls") == ("ok", "2 calls in one turn")

    doctor.ask(gpt_oss.base_url)
    assert doctor.finding("parallel calls") == ("note", "the model calls one tool at a time")


def test_without_any_parser_both_flags_are_named_on_tiny_qwen3(locked_and_bare: LiveServer, doctor: Doctor) -> None:
    doctor.ask(locked_and_bare.base_url, KEY)

    assert doctor.failures == {"reasoning": REASONING_FLAG, "tool call": TOOL_FLAGS}
    assert doctor.status == 1
    assert doctor.finding("key") == ("ok", "accepted (from bundle.json)")
    assert doctor.finding("prefix cache") == ("note", "no tokens cached on the second call")
    assert "--no-enable-prefix-caching" in doctor.found["prefix cache"]["remedy"]


def test_without_the_reasoning_parser_its_flag_is_named_on_tiny_qwen3(
    without_reasoning_parser: LiveServer, doctor: Doctor
) -> None:
    doctor.ask(without_reasoning_parser.base_url)

    assert doctor.failures == {"reasoning": REASONING_FLAG}


def test_without_the_tool_parser_its_flags_are_named_on_tiny_qwen3(
    without_tool_parser: LiveServer, doctor: Doctor
) -> None:
    doctor.ask(without_tool_parser.base_url)

    assert doctor.failures == {"tool call": TOOL_FLAGS}


@pytest.mark.parametrize(
    ("key", "finding"),
    [
        pytest.param(None, "the server requires a key; none is set", id="none"),
        pytest.param("wrong", "the server rejects the key (from bundle.json)", id="wrong"),
    ],
)
def test_a_required_key_is_reported_on_tiny_qwen3(
    locked_and_bare: LiveServer, doctor: Doctor, key: str | None, finding: str
) -> None:
    doctor.ask(locked_and_bare.base_url, key)

    assert doctor.failures == {"key": "set `api_key` (VLLM_API_KEY) to the server's `--api-key`"}
    assert doctor.finding("key") == ("fail", finding)


def test_a_missing_store_fails_if_the_config_needs_it(server: LiveServer, doctor: Doctor) -> None:
    doctor.ask(server.base_url, enable_state=True)

    assert "VLLM_ENABLE_RESPONSES_API_STORE=1" in doctor.failures["store"]
    assert doctor.status == 1


def test_a_store_is_detected(storing_server: LiveServer, doctor: Doctor) -> None:
    doctor.ask(storing_server.base_url, enable_state=True)
    assert doctor.failures == {}
    assert doctor.finding("store")[1].startswith("on, and used")
    assert doctor.finding("stored turns") == ("ok", "a conversation with tools is stored, twice")


def test_a_parameter_that_vllm_does_not_have_is_reported(server: LiveServer, doctor: Doctor) -> None:
    doctor.ask(server.base_url, extra_request_params={"top_kk": 20, "min_p": 0.1, "chat_template_kwargs": {}})

    assert doctor.failures == {}
    assert doctor.finding("parameters") == ("note", "the server ignores `top_kk`")


def test_a_wrong_path_is_corrected(server: LiveServer, doctor: Doctor) -> None:
    doctor.ask(server.base_url.removesuffix("/v1") + "/api")

    assert doctor.failures == {"reachable": f"set `base_url` (VLLM_BASE_URL) to {server.base_url}"}


def test_a_model_that_is_not_served_is_reported(server: LiveServer, doctor: Doctor) -> None:
    doctor.ask(server.base_url, default_model="llama")

    assert doctor.failures == {
        "model": "set `default_model` to the model to ask; for one run of the doctor, use `--model`"
    }
    assert doctor.finding("models")[0] == "ok"
    assert server.model in doctor.found["model"]["message"]


def test_an_unreachable_server_is_reported(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    doctor.ask(f"http://127.0.0.1:{port}")

    assert doctor.finding("reachable") == ("fail", f"nothing listens on 127.0.0.1:{port}")
    assert doctor.status == 1


@pytest.mark.parametrize(
    ("folder", "registry", "kind"),
    [
        ("tool_parsers", "_TOOL_PARSERS_TO_REGISTER", "tool_call"),
        ("reasoning", "_REASONING_PARSERS_TO_REGISTER", "reasoning"),
    ],
)
def test_vllm_has_every_parser_that_the_doctor_names(folder: str, registry: str, kind: str) -> None:
    (source,) = ensure_environment().parent.glob(f"lib/python*/site-packages/vllm/{folder}/__init__.py")
    assigned = [node for node in ast.parse(source.read_text()).body if isinstance(node, ast.Assign)]
    (names,) = [set(ast.literal_eval(one.value)) for one in assigned if ast.unparse(one.targets[0]) == registry]

    named = {parsers.tool_call if kind == "tool_call" else parsers.reasoning for _, parsers in FAMILIES}

    assert named - {None} <= names
