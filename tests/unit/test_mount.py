"""The provider mounts offline and repeatedly, and never shows its secrets."""

import asyncio
import inspect
import logging
from typing import Any

import openai
import pytest
from amplifier_core.capabilities import STREAMING
from amplifier_core.llm_errors import ConfigurationError, NetworkError
from amplifier_core.models import ModelInfo
from amplifier_core.testing import MockCoordinator

import amplifier_module_provider_vllm as package
from amplifier_module_provider_vllm import VLLMProvider, mount, on_session_ready
from amplifier_module_provider_vllm._config_reading import read_config
from amplifier_module_provider_vllm._family import FAMILIES
from tests.support.replay import ReplayServer

CLOSED = "http://127.0.0.1:1/v1"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_BASE_URL", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def coordinator() -> MockCoordinator:
    return MockCoordinator()  # type: ignore[no-untyped-call]


def mounted_providers(coordinator: MockCoordinator) -> dict[str, Any]:
    providers: dict[str, Any] = coordinator.get("providers")
    return providers


def test_the_public_names_of_the_package() -> None:
    assert set(package.__all__) == {"CallKeywords", "VLLMProvider", "mount", "on_session_ready"}
    assert package.__amplifier_module_type__ == "provider"


async def test_mounting_is_offline_and_uses_the_name_vllm(coordinator: MockCoordinator) -> None:
    async with ReplayServer() as server:
        config = {"base_url": server.base_url, "priority": "5"}
        cleanup = await mount(coordinator, config)
        await asyncio.sleep(0.05)  # a task that the mount had left behind would connect now
        after_mount = server.connections
        provider = mounted_providers(coordinator)["vllm"]
        await provider.probe()
        after_probe = server.connections
        await cleanup()

    assert (provider.name, provider.priority, provider.config) == ("vllm", 5, config)
    assert (after_mount, after_probe) == (0, 1)


async def test_a_second_mount_replaces_the_provider_and_cleanups_can_repeat(
    coordinator: MockCoordinator,
) -> None:
    first = await mount(coordinator, {"base_url": CLOSED, "priority": 1})
    before = mounted_providers(coordinator)["vllm"]
    second = await mount(coordinator, {"base_url": CLOSED, "priority": 2})
    providers = dict(mounted_providers(coordinator))
    for cleanup in (first, first, second, second):
        await cleanup()

    assert {name: provider.priority for name, provider in providers.items()} == {"vllm": 2}
    assert (before.priority, providers["vllm"] is before) == (1, False)
    with pytest.raises(NetworkError, match=f"no connection to {CLOSED}"):
        await providers["vllm"].list_models()
    await second()


@pytest.mark.parametrize(
    ("config", "variable", "url"),
    [
        (None, None, "http://localhost:8000/v1"),
        ({}, "", "http://localhost:8000/v1"),
        ({}, "http://there:9000", "http://there:9000/v1"),
        ({"base_url": ""}, "http://there:9000", "http://there:9000/v1"),
        ({"base_url": "https://here/api/v1/"}, "http://there:9000", "https://here/api/v1"),
    ],
    ids=["nothing", "empty variable", "variable", "empty key", "key"],
)
async def test_the_url_comes_from_the_config_then_the_environment_then_the_default(
    config: dict[str, Any] | None,
    variable: str | None,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    coordinator: MockCoordinator,
) -> None:
    if variable is not None:
        monkeypatch.setenv("VLLM_BASE_URL", variable)

    await mount(coordinator, config)

    assert mounted_providers(coordinator)["vllm"].url == url


@pytest.mark.parametrize("given", [{}, {"api_key": "key"}, {"api_key": "", "config": {}}, {"base_url": ""}], ids=str)
def test_the_error_for_a_missing_url_names_the_setting(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^No base_url found: set the config key `base_url` \(or VLLM_BASE_URL\)"):
        VLLMProvider(**given)


def test_a_provider_made_without_mount_reads_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", "http://there:9000")

    assert VLLMProvider().url == "http://there:9000/v1"
    assert VLLMProvider("http://here:9000").url == "http://here:9000/v1"
    assert VLLMProvider(config={"base_url": "http://here:9000"}).url == "http://here:9000/v1"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://there", "http://", "there"])
def test_an_invalid_url_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="is not an http or https URL, such as"):
        VLLMProvider(url)


async def test_an_invalid_value_fails_the_mount(coordinator: MockCoordinator) -> None:
    with pytest.raises(ConfigurationError, match="config key 'timeout' is 'soon'"):
        await mount(coordinator, {"timeout": "soon"})

    assert not mounted_providers(coordinator)


async def test_the_reason_why_a_provider_is_not_mounted_is_logged(
    coordinator: MockCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """Amplifier's app shows our log, but hides that of the kernel, which has the error."""
    with pytest.raises(ConfigurationError) as raised:
        await mount(coordinator, {"endpoint": "chat", "use_completions": True})

    assert caplog.messages == [f"[PROVIDER] vLLM: {raised.value}"]


@pytest.mark.parametrize("key", ["", None])
async def test_a_server_without_a_key_needs_none(key: str | None) -> None:
    provider = VLLMProvider(CLOSED, api_key=key, config={})

    with pytest.raises(NetworkError, match=f"no connection to {CLOSED}"):
        await provider.list_models()

    await provider.close()


def test_get_info_works_with_a_placeholder_url() -> None:
    provider = VLLMProvider("http://placeholder", api_key="", config={})

    assert provider.get_info().id == "vllm"


def test_the_url_comes_from_a_given_client() -> None:
    client = openai.AsyncOpenAI(base_url="http://there:9000/v1", api_key="key")

    assert VLLMProvider(client=client).url == "http://there:9000/v1"


def test_the_provider_has_no_stream_method() -> None:
    """Amplifier's streaming loop would use it instead of `complete`, and lose tool calls."""
    assert not hasattr(VLLMProvider(CLOSED), "stream")


def test_the_provider_follows_the_kernels_protocol() -> None:
    provider = VLLMProvider(CLOSED)

    assert inspect.iscoroutinefunction(provider.complete)
    assert inspect.iscoroutinefunction(provider.list_models)
    assert not inspect.iscoroutinefunction(provider.get_model_info)
    assert (provider.get_info().display_name, provider.name) == ("vLLM", "vllm")


def test_an_unknown_key_is_logged_with_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        VLLMProvider(CLOSED, config={"max_token": 5})

    assert caplog.messages == ["[PROVIDER] vLLM: unknown config key 'max_token': did you mean 'max_tokens'?"]


async def test_no_secret_is_shown(coordinator: MockCoordinator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await mount(coordinator, {"base_url": "http://me:hidden@there:9000/v1?k=hidden", "api_key": "hidden"})

    provider = mounted_providers(coordinator)["vllm"]

    shown = [repr(provider), provider.url, repr(provider.get_info()), repr(provider.get_model_info()), *caplog.messages]
    assert repr(provider) == "VLLMProvider('http://there:9000/v1')"
    assert not [text for text in shown if "hidden" in text]


async def test_events_outside_the_kernel_are_registered_for_observability(coordinator: MockCoordinator) -> None:
    await mount(coordinator, {"base_url": CLOSED})

    (events,) = await coordinator.collect_contributions("observability.events")

    assert {"llm:stream_block_start", "llm:stream_block_delta", "llm:stream_block_end", "llm:stream_aborted"} < {
        *events
    }


async def test_a_session_starts_without_its_server(coordinator: MockCoordinator) -> None:
    await mount(coordinator, {"base_url": CLOSED})

    await on_session_ready(coordinator)

    info = mounted_providers(coordinator)["vllm"].get_model_info()
    assert (info.id, info.context_window, info.max_output_tokens) == ("vllm", 128_000, 16_384)


async def test_a_session_with_only_other_providers_is_not_changed(coordinator: MockCoordinator) -> None:
    await coordinator.mount("providers", object(), name="other")

    await on_session_ready(coordinator)

    assert list(mounted_providers(coordinator)) == ["other"]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://localhost:8000", "local"),
        ("http://127.0.0.2", "local"),
        ("http://[::1]:8000", "local"),
        ("http://0.0.0.0:8000", "local"),
        ("http://10.0.0.5:8000", "remote"),
        ("https://localhost.example.org", "remote"),
    ],
)
def test_the_capabilities_say_local_or_remote(url: str, place: str) -> None:
    capabilities = VLLMProvider(url).get_info().capabilities

    assert {"local", "remote"} & set(capabilities) == {place}
    assert {"tools", "streaming", "thinking", "json_mode"} < set(capabilities)


def test_a_model_has_the_capabilities_of_its_provider() -> None:
    provider = VLLMProvider(CLOSED, config={"vision": True})

    of_model = provider.get_model_info().capabilities
    assert of_model == provider.get_info().capabilities
    assert len(of_model) == len(set(of_model))
    assert STREAMING in of_model


@pytest.mark.parametrize(("vision", "has_vision"), [(True, True), ("true", True), (False, False), (None, False)])
def test_vision_comes_from_the_config(vision: object, has_vision: bool) -> None:
    provider = VLLMProvider(CLOSED, config={"vision": vision, "default_model": "Qwen/Qwen3-VL"})

    assert ("vision" in provider.get_info().capabilities, "vision" in provider.get_model_info().capabilities) == (
        has_vision,
        has_vision,
    )


def test_the_setup_wizard_gets_its_fields() -> None:
    fields = {field.id: field for field in VLLMProvider(CLOSED).get_info().config_fields}

    assert (fields["base_url"].env_var, fields["api_key"].env_var) == (None, "VLLM_API_KEY")
    assert (fields["api_key"].field_type, fields["api_key"].default, fields["api_key"].required) == (
        "secret",
        None,
        False,
    )


def test_every_effort_that_is_offered_is_sent_as_one_that_the_model_takes() -> None:
    """Amplifier's hooks-routing compares a routing matrix with these choices."""
    (field,) = [field for field in VLLMProvider(CLOSED).get_info().config_fields if field.field_type == "choice"]
    unset, *efforts = field.choices or []

    assert (field.id, unset, field.default, field.required) == ("reasoning_effort", "", "", False)
    assert {"none", "low", "medium", "high"} < set(efforts)
    assert read_config({"reasoning_effort": unset}, {}).reasoning_effort is None
    for effort in efforts:
        assert read_config({"reasoning_effort": effort}, {}).reasoning_effort == effort
        for family in FAMILIES:
            assert family.efforts is None or family.effort(effort) in family.efforts


def test_prices_are_part_of_the_model_info() -> None:
    provider = VLLMProvider(CLOSED, config={"rates": {"input": 1, "output": 2, "cache_read": 0.5}})

    pricing = provider.get_model_info().model_dump().get("pricing", {})

    expected = {"input_per_million": 1.0, "output_per_million": 2.0, "cache_read_per_million": 0.5}
    known = "pricing" in ModelInfo.model_fields  # since amplifier-core 2
    assert expected.items() <= pricing.items() if known else pricing == {}


@pytest.mark.parametrize(
    ("url", "is_remote"),
    [("http://localhost:8000", False), ("http://127.0.0.2:1", False), ("http://gpu-1:8000", True)],
)
def test_a_server_on_another_machine_is_remote(url: str, is_remote: bool) -> None:
    assert VLLMProvider(url).is_remote is is_remote
