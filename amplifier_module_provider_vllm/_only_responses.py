"""Remove from an Ask what only /v1/responses can express, and report each part as a degradation."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from amplifier_core.message_models import Degradation

from ._ask import Ask
from ._options import CallOptions
from ._prompt import is_function


def without_only_responses(ask: Ask, path: str) -> Ask:
    """The request for the endpoint at this path; the same one if it can express all of it."""
    losses = (*_lost_tools(ask, path), *_lost_options(ask.options, path))
    if not losses:
        return ask
    options = replace(ask.options, hosted_tools=(), truncation=None, reasoning_summary=None, store=False)
    prompt = replace(ask.prompt, tools=tuple(filter(is_function, ask.prompt.tools)))
    degradations = (*ask.degradations, *losses)
    return replace(ask, prompt=prompt, options=options, stored=None, tokens=None, degradations=degradations)


def _lost_tools(ask: Ask, path: str) -> Iterator[Degradation]:
    """The tools that the server would run, if the model may call any."""
    if not ask.may_call_tools:
        return
    named = [tool.name for tool in ask.prompt.tools if not is_function(tool)]
    for label in (*named, *map(_label, ask.options.hosted_tools)):
        yield Degradation(requested=f"tool {label}", actual=f"no tool {label}", reason=f"{path} takes only functions")


def _label(tool: Mapping[str, Any]) -> str:
    """What a user calls a tool: an MCP server by its label, others by name or type."""
    return str(tool.get("server_label") or tool.get("name") or tool.get("type"))


def _lost_options(options: CallOptions, path: str) -> Iterator[Degradation]:
    reason = f"{path} has no field for it"
    if options.truncation == "auto":
        yield Degradation(requested="truncation auto", actual="truncation disabled", reason=reason)
    if options.reasoning_summary is not None:
        summary = f"reasoning summary {options.reasoning_summary}"
        yield Degradation(requested=summary, actual=f"no {summary}", reason=reason)
    if options.store:
        yield Degradation(requested="stored replies", actual="the whole history with every request", reason=reason)
