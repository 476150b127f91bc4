"""Remove from an Ask what /v1/chat/completions cannot express, and report each part as a degradation."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from amplifier_core.message_models import Degradation

from .._ask import Ask
from .._only_responses import without_only_responses
from .._options import NamedTool
from .._paths import ENDPOINT_PATHS
from .._prompt import is_function

PATH: Final = ENDPOINT_PATHS["chat"]


def fit(ask: Ask) -> Ask:
    """The request that the endpoint can express; the same one if it can express all of it."""
    losses, chooses_other = tuple(_losses(ask)), _chooses_no_function(ask)
    ask = without_only_responses(ask, PATH)
    if not losses:
        return ask
    choice = "auto" if chooses_other else ask.options.tool_choice
    options = replace(ask.options, tool_choice=choice, echo=False, raw_prompt=False)
    return replace(ask, options=options, degradations=(*ask.degradations, *losses))


def _losses(ask: Ask) -> Iterator[Degradation]:
    if ask.options.echo:
        yield Degradation(requested="echo", actual="no echo", reason=f"{PATH} has no field for it")
    if ask.options.raw_prompt:
        yield Degradation(requested="raw_prompt", actual="no raw_prompt", reason=f"{PATH} has no field for it")
    if ask.may_call_tools and _chooses_no_function(ask):
        reason = f"{PATH} takes only functions"
        yield Degradation(requested="a tool_choice of another kind", actual="tool_choice auto", reason=reason)


def _chooses_no_function(ask: Ask) -> bool:
    match ask.options.tool_choice:
        case NamedTool(name):
            return any(tool.name == name and not is_function(tool) for tool in ask.prompt.tools)
        case Mapping():
            return True
        case _:
            return False
