"""Amplifier config files and the effective settings, with their sources and without secrets."""

import json
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._config import Config, read_config
from amplifier_module_provider_vllm._doctor.configured import Instance, effective_settings, hide_user, read_instances
from amplifier_module_provider_vllm._doctor.findings import Setting, fail, note

YAML = """
providers:
  - module: provider-anthropic
  - module: provider-vllm
    config: {base_url: "http://gpu:8000", priority: 1}
"""
NESTED_YAML = """
config:
  providers:
    - module: provider-vllm
      source: git+https://example.com/vllm@main
      config:
        base_url: http://gpu:8000
        priority: 1
"""
NAMED_YAML = "providers: {vllm: {module: provider-vllm, config: {base_url: 'http://gpu:8000', priority: 1}}}"
TOML = """
[[providers]]
module = "provider-vllm"
[providers.config]
base_url = "http://gpu:8000"
priority = 1
"""
JSON = """
{"session": {}, "providers": [{"module": "provider-vllm", "config": {"base_url": "http://gpu:8000", "priority": 1}}]}
"""
BUNDLE = f"---\nbundle: {{name: mine}}\n{YAML}---\n\n# Mine\n\nproviders: none: of this\n"
ENVIRONMENT = {"VLLM_BASE_URL": "http://gpu:8000", "VLLM_API_KEY": "sesame", "VLLM_CONTEXT_WINDOW": ""}


def write_file(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("bundle.yaml", YAML, id="yaml"),
        pytest.param("settings.yaml", NESTED_YAML, id="nested under config"),
        pytest.param("host.yml", NAMED_YAML, id="a table of providers"),
        pytest.param("plan.toml", TOML, id="toml"),
        pytest.param("plan.json", JSON, id="json"),
        pytest.param("bundle.md", BUNDLE, id="the front matter of a bundle"),
    ],
)
def test_the_provider_is_found_in_every_shape(tmp_path: Path, name: str, text: str) -> None:
    found = read_instances(write_file(tmp_path, name, text))

    config = {"base_url": "http://gpu:8000", "priority": 1}
    assert found == [Instance("vllm", config, dict.fromkeys(config, name), [])]


@pytest.mark.parametrize("key", ["id", "instance_id"])
def test_every_instance_is_found(tmp_path: Path, key: str) -> None:
    text = f"""
providers:
  - {{module: provider-vllm, {key}: small, config: {{base_url: "http://gpu-1:8000"}}}}
  - {{module: provider-vllm, {key}: large, config: {{base_url: "http://gpu-2:8000"}}}}
"""

    found = read_instances(write_file(tmp_path, "bundle.yaml", text))

    assert [(one.name, one.config["base_url"]) for one in found] == [
        ("small", "http://gpu-1:8000"),
        ("large", "http://gpu-2:8000"),
    ]


def test_variables_are_expanded_and_unset_ones_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU", "gpu-7")
    monkeypatch.delenv("GPU_KEY", raising=False)
    text = """
providers:
  - module: provider-vllm
    config:
      base_url: http://${GPU}:${GPU_PORT:8000}
      api_key: ${GPU_KEY}
      extra_headers: {X-Team: "${GPU}"}
"""

    (found,) = read_instances(write_file(tmp_path, "bundle.yaml", text))

    assert found.config == {"base_url": "http://gpu-7:8000", "api_key": "", "extra_headers": {"X-Team": "gpu-7"}}
    assert found.findings == [
        note("config", "the variable GPU_KEY is not set and is read as empty", "export GPU_KEY=…"),
    ]


def test_a_module_name_that_amplifier_does_not_find_is_reported(tmp_path: Path) -> None:
    (found,) = read_instances(write_file(tmp_path, "a.yaml", "providers: [{module: amplifier-module-provider-vllm}]"))

    message = "Amplifier finds no module called amplifier-module-provider-vllm"
    assert found.findings == [fail("config", message, "write `module: provider-vllm`")]


def test_two_providers_of_the_same_name_are_reported(tmp_path: Path) -> None:
    text = "providers: [{module: provider-vllm}, {module: provider-vllm}]"

    first, second = read_instances(write_file(tmp_path, "a.yaml", text))

    message = "2 vLLM providers are called 'vllm'"
    remedy = "give each an `id` of its own (in a mount plan an `instance_id`)"
    assert first.findings == second.findings == [fail("config", message, remedy)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("providers:\n", id="no list"),
        pytest.param("providers: many\n", id="a word"),
        pytest.param("providers: [vllm, 3, null]\n", id="no tables"),
        pytest.param("- just\n- words\n", id="another list"),
    ],
)
def test_a_file_without_the_provider_has_no_instance(tmp_path: Path, text: str) -> None:
    assert read_instances(write_file(tmp_path, "bundle.yaml", text)) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("bundle.yaml", "providers: [", id="broken yaml"),
        pytest.param("bundle.toml", "providers = [", id="broken toml"),
        pytest.param("bundle.yaml", "providers: [{module: provider-vllm, config: text}]", id="a config that is none"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_instances(write_file(tmp_path, name, text))


def test_the_command_line_overrides_the_file() -> None:
    stated = Instance("vllm", {"default_model": "a", "top_p": 1}, {"default_model": "f.yaml", "top_p": "f.yaml"})

    assert stated.with_settings({"default_model": "b"}, "command line") == Instance(
        "vllm", {"default_model": "b", "top_p": 1}, {"default_model": "command line", "top_p": "f.yaml"}
    )


def settings_of(environment: dict[str, str], **given: object) -> dict[str, Setting]:
    sources = dict.fromkeys(given, "bundle.yaml")
    found = effective_settings(given, sources, read_config(given, environment), environment)
    return {setting.key: setting for setting in found}


def test_every_key_is_listed_with_its_source() -> None:
    found = settings_of(ENVIRONMENT, temperature=0, default_model="")

    assert found.keys() == Config.model_fields.keys()
    assert found["temperature"] == Setting("temperature", 0.0, "bundle.yaml")
    assert found["base_url"] == Setting("base_url", "http://gpu:8000", "VLLM_BASE_URL")
    assert found["context_window"] == Setting("context_window", None, "default")
    assert found["default_model"] == Setting("default_model", None, "default")


def test_a_configured_key_overrides_the_environment() -> None:
    found = settings_of(ENVIRONMENT, base_url="http://other:8000")

    assert found["base_url"] == Setting("base_url", "http://other:8000", "bundle.yaml")


def test_an_empty_truncation_counts_as_configured() -> None:
    assert settings_of({}, truncation="")["truncation"] == Setting("truncation", None, "bundle.yaml")


def test_the_default_url_is_shown_if_none_is_configured() -> None:
    assert settings_of({})["base_url"] == Setting("base_url", "http://localhost:8000/v1", "default")


def test_no_secret_is_shown() -> None:
    found = settings_of(
        {},
        base_url="https://me:hunter2@gpu:8000/v1",
        api_key="hunter2",
        extra_headers={"X-Gateway": "hunter2"},
        extra_request_params={"api_key": "hunter2", "top_k": 20},
    )

    shown = json.dumps([setting.value for setting in found.values()])
    assert "hunter2" not in shown
    assert found["api_key"].value == "set, hidden"
    assert found["base_url"].value == "https://…@gpu:8000/v1"
    assert found["extra_headers"].value == {"X-Gateway": "hidden"}
    assert found["extra_request_params"].value == {"api_key": "[REDACTED]", "top_k": 20}


def test_a_missing_key_is_shown_as_none() -> None:
    assert settings_of({})["api_key"].value == "none"
    assert settings_of({}, api_key="EMPTY")["api_key"].value == "none"


def test_user_and_password_are_removed_from_a_text() -> None:
    message = hide_user("base_url 'me:hunter2@gpu:8000' is not an http URL, https://me:hunter2@gpu is")

    assert message == "base_url '…@gpu:8000' is not an http URL, https://…@gpu is"
