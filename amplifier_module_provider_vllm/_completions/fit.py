"""Remove from an Ask what /v1/completions cannot express, and report each part as a degradation."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from amplifier_core.message_models import Degradation, ToolSpec

from .._ask import Ask, with_newest_images
from .._options import CallOptions, NamedTool
from .._prompt import Prompt, User, is_function

NO_FIELD: Final = "/v1/completions has no field for it"
ONLY_FUNCTIONS: Final = "on /v1/completions the model can call only the session's own tools"
NO_GRAMMAR: Final = "/v1/completions has no grammar for calls"
TEMPLATE_ECHO: Final = "the prompt as the server renders it has control tokens; a `raw_prompt` can be echoed"
TEXT_ALONE: Final = "with `raw_prompt` the last user message is the whole prompt"


def fit(ask: Ask) -> Ask:
    """The request that the endpoint can express; the same one if it can express all of it."""
    raw = ask.options.raw_prompt
    by_kind = _lost_to_raw_prompt(ask) if raw else _lost_grammar(ask)
    losses = [*_lost_tools(ask), *_lost_options(ask.options), *by_kind]
    if losses:
        prompt, options = (_raw_prompt if raw else _free_prompt)(ask.prompt), _kept_options(ask.options)
        ask = replace(ask, prompt=prompt, options=options, tokens=None, degradations=(*ask.degradations, *losses))
    return with_newest_images(ask, 0, "/v1/completions takes no images") or ask


def _lost_tools(ask: Ask) -> Iterator[Degradation]:
    """The tools that the server would run."""
    named = [tool.name for tool in ask.prompt.tools if not is_function(tool)] if ask.may_call_tools else []
    for label in (*named, *map(_label, ask.options.hosted_tools)):
        yield Degradation(requested=f"tool {label}", actual=f"no tool {label}", reason=ONLY_FUNCTIONS)


def _label(tool: Mapping[str, Any]) -> str:
    return str(tool.get("server_label") or tool.get("name") or tool.get("type"))


def _lost_options(options: CallOptions) -> Iterator[Degradation]:
    lost = {
        "truncation auto": options.truncation == "auto",
        f"reasoning summary {options.reasoning_summary}": options.reasoning_summary is not None,
        "stored replies": options.store,
    }
    actual = {"truncation auto": "truncation disabled", "stored replies": "the whole history with every request"}
    for requested in (requested for requested, is_lost in lost.items() if is_lost):
        yield Degradation(requested=requested, actual=actual.get(requested, f"no {requested}"), reason=NO_FIELD)


def _lost_grammar(ask: Ask) -> Iterator[Degradation]:
    """What would hold the model to a choice or a schema; its calls are still checked."""
    options = ask.options
    if options.echo:
        yield Degradation(requested="echo", actual="no echo", reason=TEMPLATE_ECHO)
    if not ask.may_call_tools:
        return
    if not _is_free(options):
        requested = f"tool_choice {_choice(options)}"
        yield Degradation(requested=requested, actual="tool_choice auto", reason=NO_GRAMMAR)
    if options.parallel_tool_calls is False:
        yield Degradation(requested="one call at a time", actual="calls in parallel", reason=NO_GRAMMAR)
    for tool in filter(_is_strict, ask.prompt.tools):
        yield Degradation(requested=f"strict {tool.name}", actual=f"{tool.name}", reason=NO_GRAMMAR)


def _lost_to_raw_prompt(ask: Ask) -> Iterator[Degradation]:
    prompt, options = ask.prompt, ask.options
    lost = {
        "the history": len(prompt.items) != len(_last_user(prompt)),
        "instructions": prompt.instructions is not None,
        "tools": bool(ask.functions),
        f"reasoning effort {options.reasoning_effort}": options.reasoning_effort is not None,
    }
    for requested in (requested for requested, is_lost in lost.items() if is_lost):
        yield Degradation(requested=requested, actual="a raw prompt", reason=TEXT_ALONE)


def _raw_prompt(prompt: Prompt) -> Prompt:
    return replace(prompt, items=_last_user(prompt), instructions=None, tools=())


def _free_prompt(prompt: Prompt) -> Prompt:
    tools = tuple(_freed(tool) if _is_strict(tool) else tool for tool in prompt.tools if is_function(tool))
    return replace(prompt, tools=tools)


def _kept_options(options: CallOptions) -> CallOptions:
    raw = options.raw_prompt
    return replace(
        options,
        tool_choice=None if raw or not _is_free(options) else options.tool_choice,
        parallel_tool_calls=options.parallel_tool_calls or None,
        reasoning_effort=None if raw else options.reasoning_effort,
        echo=raw and options.echo,
        hosted_tools=(),
        truncation=None,
        reasoning_summary=None,
        store=False,
    )


def _is_free(options: CallOptions) -> bool:
    return options.tool_choice in (None, "auto", "none")


def _choice(options: CallOptions) -> str:
    choice = options.tool_choice
    return choice.name if isinstance(choice, NamedTool) else str(choice)


def _last_user(prompt: Prompt) -> tuple[User, ...]:
    return tuple(item for item in prompt.items if isinstance(item, User))[-1:]


def _is_strict(tool: ToolSpec) -> bool:
    return bool((tool.model_extra or {}).get("strict"))


def _freed(tool: ToolSpec) -> ToolSpec:
    return ToolSpec.model_validate({key: value for key, value in tool.model_dump().items() if key != "strict"})
