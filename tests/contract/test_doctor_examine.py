"""The doctor with configs that need correcting."""

import pytest

from amplifier_module_provider_vllm._doctor.configured import Instance
from amplifier_module_provider_vllm._doctor.examine import examine
from amplifier_module_provider_vllm._doctor.findings import Examination, note
from tests.support.doctor import NullReport, failures, run_doctor
from tests.support.replay import ReplayServer, json_reply

pytestmark = pytest.mark.usefixtures("clean_environment")

URL = "correct `base_url` in bundle.yaml"
CONFIG = "correct the config key or the variable that the message names"


@pytest.mark.parametrize(
    ("config", "message", "remedy"),
    [
        pytest.param({"base_url": "localhost:8000"}, "'localhost:8000' is not an http or https", URL, id="no scheme"),
        pytest.param({"base_url": "http://localhost:99999"}, "99999", URL, id="no port"),
        pytest.param(
            {"base_url": "http://localhost:1", "temperature": "hot"}, "'temperature' is 'hot'", CONFIG,
            id="value",
        ),
    ],
)  # fmt: skip
async def test_an_invalid_config_is_reported_before_any_request(
    config: dict[str, str], message: str, remedy: str
) -> None:
    found = await run_doctor(**config)

    assert failures(found) == {"config": remedy}
    assert message in found["config"].message


async def test_a_secret_of_the_apps_keys_file_is_in_no_finding() -> None:
    denied = json_reply(403, {"error": {"message": "mountain-key may not do this", "code": 403}})
    examination = Examination("vllm")
    async with ReplayServer(models=denied) as server:
        instance = Instance("vllm", keys={"VLLM_API_KEY": "mountain-key"})
        await examine(instance.with_settings({"base_url": server.base_url}, "a.yaml"), examination, NullReport())

    assert "may not do this" in str(examination.findings)
    assert "mountain-key" not in str(examination)


async def test_unknown_keys_are_reported() -> None:
    async with ReplayServer(models=json_reply(200, {"object": "list", "data": []})) as server:
        found = await run_doctor(server.base_url, temprature=1)

    assert found["config"] == note("config", "unknown config key 'temprature': did you mean 'temperature'?")
    assert found["models"].message == "the server has no models"
