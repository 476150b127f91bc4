"""amplifier-core's own suites for providers."""

from pathlib import Path

import pytest
from amplifier_core.validation.behavioral import ProviderBehaviorTests
from amplifier_core.validation.structural import ProviderStructuralTests

import amplifier_module_provider_vllm
from tests.rig.server import LiveServer

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def _environment(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment, since the suites mount with an empty config."""
    monkeypatch.setenv("VLLM_BASE_URL", server.base_url)


@pytest.fixture
def module_path() -> Path:
    """Given explicitly: the suites skip themselves in a checkout with an unknown folder name."""
    return Path(amplifier_module_provider_vllm.__file__).parent


class TestStructure(ProviderStructuralTests):
    pass


class TestBehaviour(ProviderBehaviorTests):
    pass
