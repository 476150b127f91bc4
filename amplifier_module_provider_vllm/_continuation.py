"""Carry a reply into the next round: one that our own cap cut off, or one whose call cannot be run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from ._responses.input_items import InputItem, answered, called, said, thought
from ._tool_markup import is_marked
from ._turn import FunctionCall, Item, OtherItem, Reasoning, Text, TokenUsage, Turn

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NextRound:
    """What to ask for next, and the items that stay: the next round goes on with the last of them."""

    params: Params
    before: tuple[Item, ...] = ()


def next_round(
    params: Params, turn: Turn, before: Sequence[Item], *, window: int | None, harmony: bool
) -> NextRound | None:
    """The round that completes a reply which the cap on its tokens cut off; None where nothing can be gained.

    A text goes on where it stopped: vLLM continues a last message whose status is "incomplete". Harmony never does, and
    a thought or a call that was cut off cannot go on either: those are asked again, with all the room there is. Whole
    replies have a cut call as the beginning of its markup.
    """
    if not turn.cut_off:
        return None
    last = turn.items[-1] if turn.items else None
    if isinstance(last, Text) and not harmony and not ("tools" in params and is_marked(last)):
        return _continued(params, turn, before, last)
    return _asked_again(params, turn, before, window)


def corrected(params: Params, turn: Turn, call: FunctionCall, wrong: str, *, harmony: bool) -> Params:
    """The round after a call that cannot be run: each call answered, that one with what is wrong with it."""
    items = list(replayed(turn.items, len(params["input"]), harmony=harmony))
    for other in turn.calls:
        told = wrong if other is call else f"Not run: the call of {call.name!r} beside it was malformed. Call it again."
        items.append(answered(other.call_id, told))
    return {**params, "input": [*params["input"], *items]}


def replayed(items: Sequence[Item], position: int, *, harmony: bool) -> Iterator[InputItem]:
    """The reply as input, item by item, as the history encodes it when a session sends it back."""
    spell = thought if harmony and any(isinstance(item, FunctionCall) for item in items) else said
    for place, item in enumerate(items, position):
        match item:
            case Reasoning(text=text):
                yield thought(text, place)
            case Text(text=text) | OtherItem(text=text):
                yield spell(text, place)
            case FunctionCall(call_id=call_id, name=name, arguments=arguments):
                yield called(call_id, name, arguments)
            case _:
                assert_never(item)


def summed(first: TokenUsage | None, second: TokenUsage | None) -> TokenUsage | None:
    """What both rounds cost together."""
    if first is None or second is None:
        return first or second
    return TokenUsage(
        input_tokens=first.input_tokens + second.input_tokens,
        output_tokens=first.output_tokens + second.output_tokens,
        reasoning_tokens=_sum(first.reasoning_tokens, second.reasoning_tokens),
        cached_tokens=_sum(first.cached_tokens, second.cached_tokens),
        cache_write_tokens=_sum(first.cache_write_tokens, second.cache_write_tokens),
        estimated=first.estimated or second.estimated,
    )


def _continued(params: Params, turn: Turn, before: Sequence[Item], last: Text) -> NextRound | None:
    if tuple(before) == turn.items:
        return None  # the round brought nothing, and the next would not either
    history = params["input"][: len(params["input"]) - len(before)]
    whole = list(replayed(turn.items[:-1], len(history), harmony=False))
    cut = said(last.text, len(history) + len(whole), whole=False)
    # Without effort "none" the rest of the text comes back as reasoning; a continued message is not told otherwise.
    effort = {"reasoning": {**params.get("reasoning", {}), "effort": "none"}}
    return NextRound({**params, **effort, "input": [*history, *whole, cut]}, turn.items)


def _asked_again(params: Params, turn: Turn, before: Sequence[Item], window: int | None) -> NextRound | None:
    cap = params.get("max_output_tokens")
    if window is None or turn.usage is None or cap is None:
        return None
    room = window - turn.usage.input_tokens
    return NextRound({**params, "max_output_tokens": room}, tuple(before)) if room > cap else None


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None and second is None else (first or 0) + (second or 0)
