"""Amplifier config files and the effective settings, with their sources and without secrets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from amplifier_module_provider_vllm._config import Config
from amplifier_module_provider_vllm._config_reading import read_config
from amplifier_module_provider_vllm._doctor.configured import Instance, effective_settings, hide_user, read_instances
from amplifier_module_provider_vllm._doctor.findings import Setting, fail, note

pytestmark = pytest.mark.usefixtures("clean_environment")

SettingsOf = Callable[..., dict[str, Setting]]

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


SETTINGS = "config: {{providers: {}}}"
PLAN = "{{session: {{orchestrator: loop-basic, context: context-simple}}, providers: {}}}"
BUNDLE_WITH_SESSION = "{{bundle: {{name: mine}}, session: {{orchestrator: loop-basic}}, providers: {}}}"


def entries(*keys: str) -> str:
    """A list of vLLM entries with these further keys, as JSON and YAML."""
    given = [{"module": "provider-vllm", **dict(pair.split("=") for pair in key.split())} for key in keys]
    return json.dumps([*given, {"module": "provider-openai"}])


APP_FILES = [("settings.yaml", SETTINGS), ("bundle.yaml", "providers: {}"), ("bundle.yaml", BUNDLE_WITH_SESSION)]
PLANS = [("plan.json", '{{"providers": {}}}'), ("plan.json", '{{"config": {{"providers": {}}}}}'), ("plan.yaml", PLAN)]


@pytest.mark.parametrize(
    ("name", "shape", "key"),
    [*[(*file, "id") for file in APP_FILES], *[(*file, "instance_id") for file in PLANS]],
)
def test_every_instance_is_found(tmp_path: Path, name: str, shape: str, key: str) -> None:
    text = shape.format(entries(f"{key}=small", f"{key}=large"))

    found = read_instances(write_file(tmp_path, name, text))

    assert [(one.name, list(one.findings)) for one in found] == [("small", []), ("large", [])]


MERGED = "Amplifier's app merges 2 vLLM entries into one, whatever their priority"
MOUNTED = "AmplifierSession mounts 2 vLLM entries under one name, the last wins"


@pytest.mark.parametrize(
    ("keys", "defect", "names"),
    [
        (("", ""), "this one has no `id`", ("vllm-1", "vllm-2")),
        (("id=gpu", "id=gpu"), "they have the same `id`, gpu", ("gpu-1", "gpu-2")),
        (
            ("instance_id=a", "instance_id=b"),
            "this one has only an `instance_id`, by which Amplifier's app does not tell entries apart",
            ("a", "b"),
        ),
    ],
    ids=["no id", "same id", "only instance_id"],
)
@pytest.mark.parametrize(("name", "shape"), APP_FILES)
def test_entries_that_the_app_would_merge_fail_with_the_line_to_add(
    tmp_path: Path, name: str, shape: str, keys: tuple[str, str], defect: str, names: tuple[str, str]
) -> None:
    found = read_instances(write_file(tmp_path, name, shape.format(entries(*keys))))

    lines = [f"give each an `id` of its own, here: `id: {name}`" for name in names]
    assert [list(one.findings) for one in found] == [[fail("config", f"{MERGED}: {defect}", line)] for line in lines]


@pytest.mark.parametrize(
    ("keys", "defect", "names"),
    [
        (("", ""), "this one has no `instance_id`", ("vllm-1", "vllm-2")),
        (("instance_id=gpu", "instance_id=gpu"), "they have the same `instance_id`, gpu", ("gpu-1", "gpu-2")),
        (
            ("id=a", "id=b"),
            "this one has only an `id`, by which AmplifierSession does not tell entries apart",
            ("a", "b"),
        ),
    ],
    ids=["no instance_id", "same instance_id", "only id"],
)
@pytest.mark.parametrize(("name", "shape"), PLANS)
def test_entries_of_a_mount_plan_with_one_name_fail_with_the_line_to_add(
    tmp_path: Path, name: str, shape: str, keys: tuple[str, str], defect: str, names: tuple[str, str]
) -> None:
    found = read_instances(write_file(tmp_path, name, shape.format(entries(*keys))))

    lines = [f"give each an `instance_id` of its own, here: `instance_id: {name}`" for name in names]
    assert [list(one.findings) for one in found] == [[fail("config", f"{MOUNTED}: {defect}", line)] for line in lines]


def test_an_entry_without_an_id_beside_one_with_is_a_note(tmp_path: Path) -> None:
    """The wizard writes such files."""
    first, second = read_instances(write_file(tmp_path, "settings.yaml", SETTINGS.format(entries("", "id=vllm-2"))))

    message = "this entry has no `id`, another vLLM entry has one: routing may choose one and configure the other"
    assert first.findings == [note("config", message, "give each an `id` of its own, here: `id: vllm-1`")]
    assert second.findings == []


@pytest.mark.parametrize("key", ["", "id=a", "instance_id=a"])
def test_a_single_entry_needs_no_name(tmp_path: Path, key: str) -> None:
    (found,) = read_instances(write_file(tmp_path, "bundle.yaml", f"providers: {entries(key)}"))

    assert found.findings == []


def test_the_same_id_in_another_list_is_that_of_the_same_provider(tmp_path: Path) -> None:
    """An agent of a bundle may configure a provider of the session anew."""
    one = entries("id=gpu")
    text = f"{{bundle: {{name: mine}}, providers: {one}, agents: {{explorer: {{providers: {one}}}}}}}"

    found = read_instances(write_file(tmp_path, "bundle.yaml", text))

    assert [list(one.findings) for one in found] == [[], []]


def test_providers_at_the_top_of_a_settings_file_fail(tmp_path: Path) -> None:
    (found,) = read_instances(write_file(tmp_path, "settings.local.yaml", YAML))

    message = "Amplifier's app does not read `providers` at the top of a settings file"
    assert found.findings == [fail("config", message, "indent it under a line `config:`")]


KEYS = "# Keys\nPART=mountain\nVLLM_API_KEY=\"sesame-open\"\nGPU_KEY='mountain-key'\nGPU=gpu-from-the-file\n"


def write_keys(home: Path) -> None:
    (home / ".amplifier").mkdir()
    (home / ".amplifier" / "keys.env").write_text(KEYS)


def test_variables_come_from_the_apps_keys_file_after_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_keys(tmp_path)
    monkeypatch.setenv("GPU", "gpu-7")
    entry = "{module: provider-vllm, config: {base_url: 'http://${GPU}', api_key: '${GPU_KEY}'}}"

    (found,) = read_instances(write_file(tmp_path, "settings.yaml", f"config: {{providers: [{entry}]}}"))

    assert found.config == {"base_url": "http://gpu-7", "api_key": "mountain-key"}
    assert found.findings == []


def test_no_value_of_the_apps_keys_file_is_shown(tmp_path: Path) -> None:
    write_keys(tmp_path)
    entry = (
        "{module: provider-vllm, config: {default_model: 'a ${GPU_KEY}', extra_request_params: {k: ['${GPU_KEY}']}}}"
    )

    (found,) = read_instances(write_file(tmp_path, "settings.yaml", f"config: {{providers: [{entry}]}}"))

    settings = {one.key: one for one in effective_settings(found, read_config(found.config, found.environment))}
    assert settings["api_key"] == Setting("api_key", "set, hidden", "VLLM_API_KEY in keys.env")
    assert settings["default_model"].value == "a [REDACTED]"
    assert settings["extra_request_params"].value == {"k": ["[REDACTED]"]}


def test_a_mount_plan_is_not_given_the_apps_keys_file(tmp_path: Path) -> None:
    write_keys(tmp_path)

    (found,) = read_instances(write_file(tmp_path, "plan.json", JSON))

    assert "VLLM_API_KEY" not in found.environment


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


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> SettingsOf:
    """The settings, by key, of a config in an environment."""

    def found(environment: dict[str, str], **given: object) -> dict[str, Setting]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        instance = Instance("vllm").with_settings(given, "bundle.yaml")
        return {one.key: one for one in effective_settings(instance, read_config(given, instance.environment))}

    return found


def test_every_key_is_listed_with_its_source(settings_of: SettingsOf) -> None:
    found = settings_of(ENVIRONMENT, temperature=0, default_model="")

    assert found.keys() == Config.model_fields.keys()
    assert found["temperature"] == Setting("temperature", 0.0, "bundle.yaml")
    assert found["base_url"] == Setting("base_url", "http://gpu:8000", "VLLM_BASE_URL")
    assert found["context_window"] == Setting("context_window", None, "default")
    assert found["default_model"] == Setting("default_model", None, "default")


def test_a_configured_key_overrides_the_environment(settings_of: SettingsOf) -> None:
    found = settings_of(ENVIRONMENT, base_url="http://other:8000")

    assert found["base_url"] == Setting("base_url", "http://other:8000", "bundle.yaml")


def test_an_empty_truncation_counts_as_configured(settings_of: SettingsOf) -> None:
    assert settings_of({}, truncation="")["truncation"] == Setting("truncation", None, "bundle.yaml")


def test_the_default_url_is_shown_if_none_is_configured(settings_of: SettingsOf) -> None:
    assert settings_of({})["base_url"] == Setting("base_url", "http://localhost:8000/v1", "default")


def test_no_secret_is_shown(settings_of: SettingsOf) -> None:
    url = "https://me:hunter2@docs/mcp?key=hunter2"
    tool = {"type": "mcp", "server_label": "docs", "server_url": url, "headers": {"X-Docs": "hunter2"}}
    found = settings_of(
        {},
        base_url="https://me:hunter2@gpu:8000/v1",
        api_key="hunter2",
        extra_headers={"X-Gateway": "hunter2"},
        extra_request_params={"api_key": "hunter2", "top_k": 20},
        hosted_tools=[tool],
    )

    shown = json.dumps([setting.value for setting in found.values()])
    assert "hunter2" not in shown
    assert found["api_key"].value == "set, hidden"
    assert found["base_url"].value == "https://…@gpu:8000/v1"
    assert found["extra_headers"].value == {"X-Gateway": "hidden"}
    assert found["extra_request_params"].value == {"api_key": "[REDACTED]", "top_k": 20}


def test_no_secret_of_a_tool_among_the_request_parameters_is_shown(settings_of: SettingsOf) -> None:
    tool = {"type": "mcp", "server_label": "docs", "server_url": "https://docs/mcp", "headers": {"X-Docs": "hunter2"}}

    found = settings_of({}, extra_request_params={"tools": [tool]})

    assert found["extra_request_params"].value == {"tools": [tool | {"headers": {"X-Docs": "[REDACTED]"}}]}


def test_a_missing_key_is_shown_as_none(settings_of: SettingsOf) -> None:
    assert settings_of({})["api_key"].value == "none"
    assert settings_of({}, api_key="EMPTY")["api_key"].value == "none"


def test_a_key_in_the_query_of_a_url_is_hidden(settings_of: SettingsOf) -> None:
    found = settings_of({}, base_url="https://gpu:8000/v1?version=1&api-key=mountain-key")

    assert found["base_url"].value == "https://gpu:8000/v1?version=1&api-key=[REDACTED]"


def test_user_and_password_are_removed_from_a_text() -> None:
    message = hide_user("base_url 'me:hunter2@gpu:8000' is not an http URL, https://me:hunter2@gpu is")

    assert message == "base_url '…@gpu:8000' is not an http URL, https://…@gpu is"
