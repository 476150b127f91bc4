"""The Amplifier module `hooks-vllm-tokens`: writes every session's trajectory to a folder, as it goes."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from amplifier_core import HookResult
from amplifier_core.events import ORCHESTRATOR_COMPLETE
from amplifier_core.llm_errors import ConfigurationError
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from .._config_reading import unknown_names
from .handlers import register
from .recorder import TOKENS_EVENT
from .session_capture import Format, SessionCapture
from .spans import record_in_span

logger = logging.getLogger(__name__)

HOOK = "hooks-vllm-tokens"

EXECUTION_END = "execution:end"
"""Of the loops that do not emit `orchestrator:complete` for every turn."""


class TokensConfig(BaseModel):
    """What an operator may set."""

    model_config = ConfigDict(frozen=True)

    path: Path = Path("~/.amplifier/vllm-tokens")
    """The folder; one that is not absolute is under the session's working directory."""
    format: Format = "atif"
    add_to_span: bool = False
    """Off by default: every span repeats the whole prompt."""

    @field_validator("path", mode="before")
    @classmethod
    def _names_a_folder(cls, path: object) -> object:
        if isinstance(path, str) and not path.strip():
            raise ValueError("the path of a folder is needed")
        return path


async def mount(coordinator: Any, config: Mapping[str, Any] | None = None) -> Callable[[], Awaitable[None]]:
    """Listen to the session's calls and return the cleanup. No file is made before the first call.

    Raises `ConfigurationError` for an invalid config value.
    """
    settings = read_config(config or {})
    capture = SessionCapture(_folder(settings.path, coordinator), settings.format, coordinator)

    async def on_call(_event: str, data: dict[str, Any]) -> HookResult:
        await capture.record_call(data)
        if settings.add_to_span:
            record_in_span(data)
        return HookResult(action="continue")

    async def on_turn_end(_event: str, _data: dict[str, Any]) -> HookResult:
        await capture.end_turn()
        return HookResult(action="continue")

    detach = [
        register(coordinator, event, handler, HOOK)
        for event, handler in (
            (TOKENS_EVENT, on_call),
            (ORCHESTRATOR_COMPLETE, on_turn_end),
            (EXECUTION_END, on_turn_end),
        )
    ]

    async def cleanup() -> None:
        for unregister in detach:
            unregister()
        await capture.close()

    return cleanup


def read_config(config: Mapping[str, Any]) -> TokensConfig:
    """The settings; an unknown key is warned of."""
    for sentence in unknown_names("config key", config, TokensConfig.model_fields, f"the keys are {_KEYS}"):
        logger.warning("[TOKENS] vLLM: %s", sentence)
    try:
        return TokensConfig.model_validate({key: value for key, value in config.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = str(first["loc"][0])
        raise ConfigurationError(f"{HOOK}: config key {key!r} is {config[key]!r}: {first['msg'].lower()}") from None


def _folder(path: Path, coordinator: Any) -> Path:
    working = coordinator.get_capability("session.working_dir")
    return Path(working or ".").absolute() / path.expanduser()


_KEYS = ", ".join(TokensConfig.model_fields)
