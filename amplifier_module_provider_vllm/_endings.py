"""What follows the end of a round: nothing, or the Ask that goes on with a reply that its output cap cut off."""

from collections.abc import Sequence
from dataclasses import replace

from ._ask import Ask, continued, continued_by_tokens, has_images, with_more_room
from ._markup.recovery import ends_in_call, holds_markup
from ._strict_json import Json, read_json
from ._turn import FunctionCall, Item, ReplyTokens, Text, Turn, shown_text


def may_continue_exactly(ask: Ask) -> bool:
    """Whether another round may go on with the reply by its token ids; a schema's grammar cannot be resumed."""
    options = ask.options
    # A request to /v1/completions gets a cap when it is rendered.
    is_capped = options.endpoint == "completions" or options.max_output_tokens is not None
    has_ids = options.endpoint != "responses" and not options.echo and not has_images(ask)
    return is_capped and has_ids and not _is_bound(ask)


def next_ask(ask: Ask, turn: Turn, window: int | None, *, exactly: bool) -> Ask | None:
    """The Ask that completes a reply truncated by its output cap; None if it would gain nothing.

    `window`: the model's, in tokens, if the server told it. `exactly`: whether the server goes on from token ids.
    """
    if not turn.truncated:
        return None
    tokens = all_tokens(turn) if exactly and ask.wants_tokens else None
    if tokens is not None:
        return None if fills(turn, window) else continued_by_tokens(ask, turn, tokens)
    last = turn.items[-1] if turn.items else None
    family = ask.options.family
    continues = family.continues_text and not _is_bound(ask) and ask.options.endpoint != "completions"
    # A truncated call is text with the start of its markup.
    if isinstance(last, Text) and continues and not (ask.may_call_tools and ends_in_call(last, family)):
        return None if fills(turn, window) else continued(ask, turn)
    # Asked again, the server would run its calls again.
    return None if turn.hosted_calls else with_more_room(ask, turn, window)


def all_tokens(turn: Turn) -> ReplyTokens | None:
    """The token ids of a round; None without those of all the tokens that the server counts."""
    tokens, usage = turn.tokens, turn.usage
    if tokens is None or not tokens.sampled:
        return None
    return tokens if usage is None or usage.estimated or usage.output_tokens == len(tokens.sampled) else None


def was_cut(ask: Ask) -> bool:
    """Whether a reply that ended with a call at its cap was cut there: no end token follows its last call.

    `ask`: the round that would continue it.
    """
    text = "" if ask.tokens is None else ask.tokens.reply_text or ""
    return ask.options.family.rendering == "harmony" or ends_in_call(Text(text), ask.options.family)


def joined(before: Turn, turn: Turn, ask: Ask) -> Turn:
    """The turn of a round that continued another one, with what both have sampled; each token is counted once."""
    if not ask.reply and not ask.is_exact:  # asked again; a cut header is no item yet
        return turn
    logprobs = None if before.logprobs is turn.logprobs is None else (*(before.logprobs or ()), *(turn.logprobs or ()))
    usage = turn.usage
    if usage is not None and ask.tokens is not None:
        usage = replace(usage, input_tokens=max(0, usage.input_tokens - len(ask.tokens.reply)))
    turn = replace(turn, logprobs=logprobs, usage=usage)
    if ask.tokens is None or before.tokens is None or turn.tokens is None:
        return turn
    text = None if before.tokens.text is None or turn.tokens.text is None else before.tokens.text + turn.tokens.text
    sampled = (*before.tokens.sampled, *turn.tokens.sampled)
    return replace(turn, tokens=ReplyTokens(before.tokens.prompt, sampled, text))


def fills(turn: Turn, window: int | None) -> bool:
    """Whether the prompt and the reply fill the window, in tokens."""
    # A gateway that runs calls adds up the prompts of its own rounds.
    usage = None if turn.hosted_calls else turn.usage
    return usage is not None and window is not None and usage.input_tokens + usage.output_tokens >= window


def reads_the_same(ours: Sequence[Item], theirs: Sequence[Item], ask: Ask) -> bool:
    """Whether we read in the sampled tokens what the server read in them, except for a tail that the cap cut.

    vLLM gives a truncated call as text with its markup, or as a call without its last arguments, or not at all.
    """
    same = 0
    while same < min(len(ours), len(theirs)) and _is_same(ours[same], theirs[same]):
        same += 1
    match ours[same:], theirs[same:]:
        case more, []:  # a server gives a text as it comes, and may hold back a call
            return all(isinstance(item, FunctionCall) for item in more)
        case _, [Text(text)] if holds_markup(text, ask.options.family):
            return True
        case [], [FunctionCall()]:
            return True
        case [first, *_], [last]:
            return _begins_alike(first, last)
        case _:
            return False


def _is_bound(ask: Ask) -> bool:
    """Whether a grammar binds the reply, which the server would begin anew in the middle."""
    return ask.prompt.format is not None or ask.options.has_grammar


def _is_same(ours: Item, theirs: Item) -> bool:
    if isinstance(ours, FunctionCall) and isinstance(theirs, FunctionCall):
        are_whole = ours.complete and theirs.complete
        return ours.name == theirs.name and not (are_whole and _arguments(ours) != _arguments(theirs))
    return type(ours) is type(theirs) and shown_text(ours).strip() == shown_text(theirs).strip()


def _begins_alike(ours: Item, theirs: Item) -> bool:
    """Whether one of two items is the beginning of the other."""
    if isinstance(ours, FunctionCall) or isinstance(theirs, FunctionCall):
        return _is_same(ours, theirs)
    mine, other = shown_text(ours).strip(), shown_text(theirs).strip()
    return type(ours) is type(theirs) and (mine.startswith(other) or other.startswith(mine))


def _arguments(call: FunctionCall) -> Json:
    """The value of the arguments: servers write the same one in different ways."""
    try:
        return read_json(call.arguments or "{}")
    except ValueError:
        return None
