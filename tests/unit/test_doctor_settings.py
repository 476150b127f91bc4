"""The config in effect as the doctor shows it: with its sources, without its secrets."""

import json

from amplifier_module_provider_vllm._config import Config, read_config
from amplifier_module_provider_vllm._doctor.findings import Setting
from amplifier_module_provider_vllm._doctor.settings import in_effect, without_user

ENVIRONMENT = {"VLLM_BASE_URL": "http://gpu:8000", "VLLM_API_KEY": "sesame", "VLLM_CONTEXT_WINDOW": ""}


def settings_of(environment: dict[str, str], **given: object) -> dict[str, Setting]:
    sources = dict.fromkeys(given, "bundle.yaml")
    found = in_effect(given, sources, read_config(given, environment), environment)
    return {setting.key: setting for setting in found}


def test_every_key_is_there_with_where_it_came_from() -> None:
    found = settings_of(ENVIRONMENT, temperature=0, default_model="")

    assert found.keys() == Config.model_fields.keys()
    assert found["temperature"] == Setting("temperature", 0.0, "bundle.yaml")
    assert found["base_url"] == Setting("base_url", "http://gpu:8000", "VLLM_BASE_URL")
    assert found["context_window"] == Setting("context_window", None, "default")
    assert found["default_model"] == Setting("default_model", None, "default")


def test_a_stated_key_stands_above_the_environment() -> None:
    found = settings_of(ENVIRONMENT, base_url="http://other:8000")

    assert found["base_url"] == Setting("base_url", "http://other:8000", "bundle.yaml")


def test_an_empty_truncation_is_stated() -> None:
    assert settings_of({}, truncation="")["truncation"] == Setting("truncation", None, "bundle.yaml")


def test_the_usual_place_is_named_where_nobody_names_one() -> None:
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


def test_no_key_is_said_to_be_none() -> None:
    assert settings_of({})["api_key"].value == "none"
    assert settings_of({}, api_key="EMPTY")["api_key"].value == "none"


def test_user_and_password_leave_a_text_wherever_they_stand() -> None:
    said = without_user("base_url 'me:hunter2@gpu:8000' is not an http URL, https://me:hunter2@gpu is")

    assert said == "base_url '…@gpu:8000' is not an http URL, https://…@gpu is"
