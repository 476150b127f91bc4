"""Remove from an Ask what /v1/responses cannot express, and report each part as a degradation."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from amplifier_core.message_models import Degradation

from .._ask import Ask
from .._options import CallOptions

NO_FIELD: Final = "/v1/responses has no field for it"
ELSEWHERE: Final = "; `endpoint: chat` gives those of all tokens"


def fit(ask: Ask) -> Ask:
    """The request that the endpoint can express; the same one if it can express all of it."""
    losses = tuple(_losses(ask.options))
    if not losses:
        return ask
    logprobs = None if _refuses_logprobs(ask.options) else ask.options.logprobs
    options = replace(ask.options, echo=False, raw_prompt=False, logprobs=logprobs)
    return replace(ask, options=options, degradations=(*ask.degradations, *losses))


def _losses(options: CallOptions) -> Iterator[Degradation]:
    if options.echo:
        yield Degradation(requested="echo", actual="no echo", reason=NO_FIELD)
    if options.raw_prompt:
        yield Degradation(requested="raw_prompt", actual="a prompt by the model's template", reason=NO_FIELD)
    if _refuses_logprobs(options):
        reason = f"vLLM refuses them for {options.family.name} at /v1/responses{ELSEWHERE}"
        yield Degradation(requested="logprobs", actual="no logprobs", reason=reason)
    elif options.logprobs is not None:
        reason = f"/v1/responses gives them with a text{ELSEWHERE}"
        yield Degradation(requested="logprobs", actual="logprobs of the text", reason=reason)


def _refuses_logprobs(options: CallOptions) -> bool:
    return options.logprobs is not None and options.family.rendering == "harmony"
