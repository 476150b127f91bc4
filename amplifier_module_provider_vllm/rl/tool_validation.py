"""Deny a tool call that cannot work before it runs, with an error from which the model learns its tools."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Annotated, Any

from amplifier_core import HookResult
from amplifier_core.events import TOOL_PRE
from amplifier_core.llm_errors import ConfigurationError
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from .._constants import INVALID_INPUT, TOOL_VALIDATION, UNKNOWN_TOOL
from .handlers import register


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VLLMToolValidationHooks:
    """Denies calls of unknown tools, and calls whose input does not have the shape that the tool's schema asks for."""

    include_allowed_tools_in_errors: bool = True
    max_allowed_tools_in_error: Annotated[int, Field(ge=0)] = 25
    validate_input_shape: bool = True

    def attach(self, coordinator: Any) -> Callable[[], None]:
        """Check every tool call of the session from now on. Returns what detaches it; that may be called again.

        The provider then leaves these calls to the session; otherwise it lets the model correct them once.
        """

        async def before_tool_call(_event: str, data: dict[str, Any]) -> HookResult:
            tools: Mapping[str, object] = coordinator.get("tools") or {}  # now: tools may be mounted later than hooks
            error = self.error(str(data.get("tool_name", "")), data.get("tool_input"), tools)
            return HookResult() if error is None else HookResult(action="deny", reason=error)

        return register(coordinator, TOOL_PRE, before_tool_call, TOOL_VALIDATION)

    def error(self, name: str, tool_input: object, tools: Mapping[str, object]) -> str | None:
        """Why this call cannot work, in the words that the model reads; None if it can."""
        if name not in tools:
            allowed = f" | allowed_tools={self._listed(tools)}" if self.include_allowed_tools_in_errors else ""
            return f"{UNKNOWN_TOOL}{name}{allowed}"
        reasons = _shape_errors(tool_input, _schema(tools[name])) if self.validate_input_shape else iter(())
        return next((f"{INVALID_INPUT}{name}> | {reason}" for reason in reasons), None)

    def _listed(self, names: Collection[str]) -> str:
        shown = list(names)[: self.max_allowed_tools_in_error]
        rest = len(names) - len(shown)
        return f"[{', '.join([*shown, f'... (+{rest} more)'] if rest else shown)}]"


async def mount(coordinator: Any, config: Mapping[str, Any] | None = None) -> Callable[[], Awaitable[None]]:
    """Attach the hooks with the options of `config`. Raises `ConfigurationError` for an unknown or invalid one."""
    stated = {key: value for key, value in (config or {}).items() if value is not None}
    try:
        detach = VLLMToolValidationHooks(**stated).attach(coordinator)
    except ValidationError as error:
        raise ConfigurationError(_explanation(error, stated)) from None

    async def cleanup() -> None:
        detach()

    return cleanup


def _schema(tool: object) -> Mapping[str, Any]:
    match tool:
        case object(input_schema=Mapping() as schema):
            return schema
        case _:  # tools older than this property have none
            return {}


def _shape_errors(tool_input: object, schema: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(tool_input, Mapping | None):
        yield "tool input must be an object"
        return
    given: Mapping[str, object] = tool_input or {}
    required, properties = schema.get("required"), schema.get("properties", {})
    names = required if isinstance(required, list) else []
    if missing := [name for name in names if isinstance(name, str) and name not in given]:
        yield f"missing required argument(s): {', '.join(missing)}"
    if schema.get("additionalProperties") is not False or not isinstance(properties, Mapping):
        return
    if unknown := sorted(str(name) for name in given if name not in properties):
        yield f"unknown argument(s): {', '.join(unknown)}"


def _explanation(error: ValidationError, stated: Mapping[str, object]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    key = str(first["loc"][0])
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown config key {key!r}: the keys are {', '.join(VLLMToolValidationHooks.__dataclass_fields__)}"
    return f"config key {key!r} is {stated[key]!r}: {first['msg'].lower()}"
