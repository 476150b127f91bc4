"""Remove from an Ask what /v1/completions cannot express, and report each part as a degradation."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from amplifier_core.message_models import Degradation, ToolSpec

from .._ask import Ask, with_newest_images
from .._only_responses import without_only_responses
from .._options import CallOptions, NamedTool
from .._paths import ENDPOINT_PATHS
from .._prompt import Prompt, User

PATH: Final = ENDPOINT_PATHS["completions"]
NO_GRAMMAR: Final = f"{PATH} has no grammar for calls"
TEMPLATE_ECHO: Final = "the prompt as the server renders it has control tokens; a `raw_prompt` can be echoed"
TEXT_ALONE: Final = "with `raw_prompt` the last user message is the whole prompt"


def fit(ask: Ask) -> Ask:
    """The request that the endpoint can express; the same one if it can express all of it."""
    raw = ask.options.raw_prompt
    losses = tuple(_lost_to_raw_prompt(ask) if raw else _lost_grammar(ask))
    ask = without_only_responses(ask, PATH)
    if losses:
        prompt, options = (_raw_prompt if raw else _free_prompt)(ask.prompt), _kept_options(ask.options)
        ask = replace(ask, prompt=prompt, options=options, tokens=None, degradations=(*ask.degradations, *losses))
    return with_newest_images(ask, 0, f"{PATH} takes no images") or ask


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
    return replace(prompt, tools=tuple(_freed(tool) if _is_strict(tool) else tool for tool in prompt.tools))


def _kept_options(options: CallOptions) -> CallOptions:
    raw = options.raw_prompt
    return replace(
        options,
        tool_choice=None if raw or not _is_free(options) else options.tool_choice,
        parallel_tool_calls=options.parallel_tool_calls or None,
        reasoning_effort=None if raw else options.reasoning_effort,
        echo=raw and options.echo,
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
