"""Recorded replies of /v1/completions as the stages of the package: events, updates and a Turn."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from amplifier_core.message_models import ToolSpec

from amplifier_module_provider_vllm._ask import Ask, TokenPrompt
from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._completions.events import Event, decode_event, decode_reply
from amplifier_module_provider_vllm._completions.fold import CompletionsFold
from amplifier_module_provider_vllm._family import family_of
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from amplifier_module_provider_vllm._turn import Item, Turn
from tests.support.exchange import GET_WEATHER
from tests.support.recordings import Recording
from tests.support.requests import ask_of
from tests.support.rounds import FoldResult, to_frames
from tests.support.vocabulary import vocabulary_folder

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding


@cache
def harmony() -> "HarmonyEncoding":
    encoding = Vocabulary(vocabulary_folder()).load()
    assert encoding is not None
    return encoding


def ask_for(
    recording: Recording, tokens: TokenPrompt | None = None, reply: Sequence[Item] = (), **overrides: Any
) -> Ask:
    """The request of a recorded exchange: with a tool, if its ids were asked for, else raw.

    `tokens` and `reply`: those of a continued round.
    """
    model, prompt = recording.request["model"], recording.request["prompt"]
    raw = isinstance(prompt, str) or not recording.request.get("return_token_ids")
    tools: list[ToolSpec] = [] if raw else [GET_WEATHER]
    ask = ask_of(request={"tools": tools}, overrides={"raw_prompt": raw, **overrides}, model=model)
    options = replace(ask.options, family=family_of(model), endpoint="completions")
    sent = None if raw else TokenPrompt(tuple(prompt), in_reasoning=False)
    return replace(ask, options=options, tokens=tokens or sent, reply=tuple(reply))


def events_of(recording: Recording) -> list[Event]:
    """The events of a recorded reply; an unstreamed reply is one event."""
    if not recording.is_stream:
        return [decode_reply(recording.body)]
    return [decode_event(frame) for frame in to_frames([recording.body])]


def folded(events: Iterable[Event], ask: Ask, blocks: Blocks | None = None) -> FoldResult:
    """The events, each as a read of its own, and the end of the stream."""
    encoding = harmony() if ask.options.family.rendering == "harmony" else None
    fold = CompletionsFold(Blocks() if blocks is None else blocks, ask, encoding)
    updates = [update for event in events for update in fold.push_all([event])]
    updates += fold.end()
    return FoldResult(updates, fold.turn, fold.failure)


def turn_of(recording: Recording, ask: Ask | None = None) -> Turn:
    """The Turn of a complete recorded reply."""
    turn = folded(events_of(recording), ask or ask_for(recording)).turn
    assert turn is not None
    return turn
