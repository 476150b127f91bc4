"""Remove from an Ask what /v1/chat/completions cannot express, and report each part as a degradation."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from amplifier_core.message_models import Degradation

from .._ask import Ask
from .._options import CallOptions, NamedTool
from .._prompt import is_function

NO_FIELD: Final = "/v1/chat/completions has no field for it"
ONLY_FUNCTIONS: Final = "/v1/chat/completions takes only functions as tools"


def fit(ask: Ask) -> Ask:
    """The request that the endpoint can express; the same one if it can express all of it."""
    losses = (*_lost_tools(ask), *_lost_options(ask.options))
    if not losses:
        return ask
    kept = replace(
        ask.options,
        tool_choice="auto" if _chooses_no_function(ask) else ask.options.tool_choice,
        hosted_tools=(),
        truncation=None,
        reasoning_summary=None,
        store=False,
        echo=False,
        raw_prompt=False,
    )
    prompt = replace(ask.prompt, tools=tuple(filter(is_function, ask.prompt.tools)))
    return replace(ask, prompt=prompt, options=kept, stored=None, degradations=(*ask.degradations, *losses))


def _lost_tools(ask: Ask) -> Iterator[Degradation]:
    if not ask.may_call_tools:
        return
    for label in _hosted_labels(ask):
        yield Degradation(requested=f"tool {label}", actual=f"no tool {label}", reason=ONLY_FUNCTIONS)
    if _chooses_no_function(ask):
        yield Degradation(requested="a tool_choice of another kind", actual="tool_choice auto", reason=ONLY_FUNCTIONS)


def _hosted_labels(ask: Ask) -> list[str]:
    """What a user calls the tools that are no functions: an MCP server by its label, others by name or type."""
    named = [tool.name for tool in ask.prompt.tools if not is_function(tool)]
    return [*named, *map(_label, ask.options.hosted_tools)]


def _label(tool: Mapping[str, Any]) -> str:
    return str(tool.get("server_label") or tool.get("name") or tool.get("type"))


def _chooses_no_function(ask: Ask) -> bool:
    match ask.options.tool_choice:
        case NamedTool(name):
            return any(tool.name == name and not is_function(tool) for tool in ask.prompt.tools)
        case Mapping():
            return True
        case _:
            return False


def _lost_options(options: CallOptions) -> Iterator[Degradation]:
    lost = {
        "truncation auto": options.truncation == "auto",
        f"reasoning summary {options.reasoning_summary}": options.reasoning_summary is not None,
        "stored replies": options.store,
        "echo": options.echo,
        "raw_prompt": options.raw_prompt,
    }
    actual = {"truncation auto": "truncation disabled", "stored replies": "the whole history with every request"}
    for requested in (requested for requested, is_lost in lost.items() if is_lost):
        yield Degradation(requested=requested, actual=actual.get(requested, f"no {requested}"), reason=NO_FIELD)
