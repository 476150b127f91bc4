"""The doctor with configs that need correcting."""

import pytest

from amplifier_module_provider_vllm._doctor.findings import note
from tests.support.doctor import failures, run_doctor
from tests.support.replay import ReplayServer, json_reply

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"base_url": "localhost:8000"}, "'localhost:8000' is not an http or https URL", id="no scheme"),
        pytest.param({"base_url": "http://localhost:99999"}, "99999", id="no port"),
        pytest.param({"base_url": "http://localhost:1", "temperature": "hot"}, "'temperature' is 'hot'", id="value"),
    ],
)
async def test_an_invalid_config_is_reported_before_any_request(config: dict[str, str], message: str) -> None:
    found = await run_doctor(**config)

    assert failures(found) == {"config": "correct this key"}
    assert message in found["config"].message


async def test_unknown_keys_are_reported() -> None:
    async with ReplayServer(models=json_reply(200, {"object": "list", "data": []})) as server:
        found = await run_doctor(server.base_url, temprature=1)

    assert found["config"] == note("config", "unknown config key 'temprature': did you mean 'temperature'?")
    assert found["models"].message == "the server has no models"
