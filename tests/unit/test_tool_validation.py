"""Tool calls that cannot work: which are denied, and in which words."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest
from amplifier_core.llm_errors import ConfigurationError
from amplifier_core.loader import ModuleLoader
from amplifier_core.testing import MockCoordinator
from amplifier_core.validation import HookValidator

from amplifier_module_provider_vllm.rl import VLLMToolValidationHooks
from amplifier_module_provider_vllm.rl.tool_validation import mount

ROOT: Final = Path(__file__).parents[2]
MODULE: Final = "hooks-vllm-tool-validation"
STRICT: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "day": {"type": "string"}},
    "required": ["day", "city"],
    "additionalProperties": False,
}


class Tool:
    """A tool with a schema."""

    def __init__(self, schema: object) -> None:
        self.input_schema = schema


class OldTool:
    """A tool from before tools had schemas."""


TOOLS: Final = {
    "search": Tool({"type": "object", "properties": {}}),
    "calculator": Tool(STRICT),
    "open": Tool({**STRICT, "additionalProperties": True}),
    "odd": Tool({"required": "city", "properties": [], "additionalProperties": False}),
    "half_odd": Tool({"required": ["city", 5, None]}),
    "no_object": Tool("anything"),
    "old": OldTool(),
}
NAMES: Final = ", ".join(TOOLS)


@pytest.fixture
def coordinator() -> MockCoordinator:
    coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
    coordinator.mount_points["tools"].update(TOOLS)
    return coordinator


async def decision(coordinator: MockCoordinator, name: str, tool_input: object) -> tuple[str, str | None]:
    result = await coordinator.hooks.emit("tool:pre", {"tool_name": name, "tool_input": tool_input})
    return result.action, result.reason


@pytest.mark.parametrize(
    ("name", "tool_input", "error"),
    [
        ("fake_tool", {}, f"Error: unknown tool: fake_tool | allowed_tools=[{NAMES}]"),
        ("", {}, f"Error: unknown tool:  | allowed_tools=[{NAMES}]"),
        ("calculator", {}, "Error: tool_name=<calculator> | missing required argument(s): day, city"),
        ("calculator", None, "Error: tool_name=<calculator> | missing required argument(s): day, city"),
        ("calculator", {"z": 1, "city": ""}, "Error: tool_name=<calculator> | missing required argument(s): day"),
        (
            "calculator",
            {"z": 1, "city": "", "day": None, "a": 2},
            "Error: tool_name=<calculator> | unknown argument(s): a, z",
        ),
        ("calculator", "Paris", "Error: tool_name=<calculator> | tool input must be an object"),
        ("old", ["Paris"], "Error: tool_name=<old> | tool input must be an object"),
        ("half_odd", {}, "Error: tool_name=<half_odd> | missing required argument(s): city"),
    ],
)
async def test_a_call_that_cannot_work_is_denied_with_the_reason(
    coordinator: MockCoordinator, name: str, tool_input: object, error: str
) -> None:
    VLLMToolValidationHooks().attach(coordinator)

    assert await decision(coordinator, name, tool_input) == ("deny", error)


@pytest.mark.parametrize(
    ("name", "tool_input"),
    [
        ("search", {"anything": 1}),
        ("search", None),
        ("calculator", {"city": None, "day": ""}),
        ("open", {"city": "Paris", "day": "today", "more": 1}),
        ("odd", {"whatever": 1}),
        ("no_object", {"whatever": 1}),
        ("old", {"whatever": 1}),
    ],
)
async def test_a_call_that_may_work_is_left_alone(coordinator: MockCoordinator, name: str, tool_input: object) -> None:
    VLLMToolValidationHooks().attach(coordinator)

    assert await decision(coordinator, name, tool_input) == ("continue", None)


@pytest.mark.parametrize(
    ("most", "count", "listed"),
    [
        (25, 0, "[]"),
        (25, 1, "[t0]"),
        (3, 3, "[t0, t1, t2]"),
        (2, 4, "[t0, t1, ... (+2 more)]"),
        (0, 4, "[... (+4 more)]"),
    ],
)
def test_at_most_so_many_allowed_tools_are_listed(most: int, count: int, listed: str) -> None:
    hooks = VLLMToolValidationHooks(max_allowed_tools_in_error=most)

    error = hooks.error("fake", {}, {f"t{number}": Tool({}) for number in range(count)})

    assert error == f"Error: unknown tool: fake | allowed_tools={listed}"


def test_the_options_have_the_documented_names_order_and_defaults() -> None:
    assert VLLMToolValidationHooks() == VLLMToolValidationHooks(True, 25, True)
    assert repr(VLLMToolValidationHooks()) == (
        "VLLMToolValidationHooks(include_allowed_tools_in_errors=True, max_allowed_tools_in_error=25,"
        " validate_input_shape=True)"
    )


def test_allowed_tools_and_the_input_shape_can_be_left_out() -> None:
    hooks = VLLMToolValidationHooks(include_allowed_tools_in_errors=False, validate_input_shape=False)

    assert hooks.error("fake", {}, TOOLS) == "Error: unknown tool: fake"
    assert hooks.error("calculator", "Paris", TOOLS) is None


async def test_tools_are_those_of_the_moment_of_the_call(coordinator: MockCoordinator) -> None:
    VLLMToolValidationHooks(include_allowed_tools_in_errors=False).attach(coordinator)
    before = await decision(coordinator, "late", {})

    coordinator.mount_points["tools"]["late"] = OldTool()

    assert before == ("deny", "Error: unknown tool: late")
    assert await decision(coordinator, "late", {}) == ("continue", None)


async def test_detached_hooks_deny_nothing_and_can_be_detached_again(coordinator: MockCoordinator) -> None:
    detach = VLLMToolValidationHooks().attach(coordinator)

    detach()
    detach()

    assert await decision(coordinator, "fake", {}) == ("continue", None)


async def test_a_second_mount_and_its_cleanup_leave_the_first_in_place(coordinator: MockCoordinator) -> None:
    first = await mount(coordinator, {"include_allowed_tools_in_errors": "false"})
    second = await mount(coordinator, {})

    await second()
    denied = await decision(coordinator, "fake", {})
    await first()

    assert denied == ("deny", "Error: unknown tool: fake")
    assert await decision(coordinator, "fake", {}) == ("continue", None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"max_allowed_tools": 5},
            (
                "unknown config key 'max_allowed_tools': the keys are include_allowed_tools_in_errors,"
                " max_allowed_tools_in_error, validate_input_shape"
            ),
        ),
        (
            {"max_allowed_tools_in_error": -1},
            "config key 'max_allowed_tools_in_error' is -1: input should be greater than or equal to 0",
        ),
        (
            {"validate_input_shape": "sometimes"},
            (
                "config key 'validate_input_shape' is 'sometimes': input should be a valid boolean,"
                " unable to interpret input"
            ),
        ),
    ],
    ids=["unknown", "negative", "no flag"],
)
async def test_an_invalid_option_is_an_error_that_names_it(
    coordinator: MockCoordinator, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as failure:
        await mount(coordinator, config)

    assert str(failure.value) == message


async def test_options_that_are_unset_have_their_defaults(coordinator: MockCoordinator) -> None:
    await mount(coordinator, {"max_allowed_tools_in_error": None, "validate_input_shape": "true"})

    assert (await decision(coordinator, "fake", {}))[1] == f"Error: unknown tool: fake | allowed_tools=[{NAMES}]"
    assert (await decision(coordinator, "calculator", {}))[0] == "deny"


@pytest.mark.parametrize("path", ["amplifier_module_hooks_vllm_tool_validation", None], ids=["name", "folder"])
async def test_the_kernels_validator_accepts_the_module(path: str | None) -> None:
    result = await HookValidator().validate(path or ROOT / "amplifier_module_hooks_vllm_tool_validation")

    assert result.passed, result.errors
    assert "Hooks registered via coordinator.hooks.register()" in [check.message for check in result.checks]


class Checkout:
    """The module's `source:`, this checkout, as an app's resolver finds it."""

    def resolve(self, *_module: str, **_hints: object) -> Any:
        return self if _module else ROOT


@pytest.mark.parametrize("resolver", [None, Checkout()], ids=["entry point", "source"])
async def test_the_kernels_loader_loads_the_hooks_and_not_the_provider(
    coordinator: MockCoordinator, resolver: Checkout | None
) -> None:
    if resolver is not None:
        await coordinator.mount("module-source-resolver", resolver)
    config = {"include_allowed_tools_in_errors": False}

    mount_module = await ModuleLoader(coordinator).load(MODULE, config)
    cleanup = await mount_module(coordinator)
    denied = await decision(coordinator, "fake", {})
    assert cleanup is not None
    await cleanup()

    assert denied == ("deny", "Error: unknown tool: fake")
    assert not coordinator.get("providers")
    assert await decision(coordinator, "fake", {}) == ("continue", None)


def test_amplifier_finds_the_module_by_its_entry_point() -> None:
    (found,) = entry_points(group="amplifier.modules", name=MODULE)

    assert found.value == "amplifier_module_hooks_vllm_tool_validation:mount"
