"""Ask, the request that every endpoint can encode, and the pure steps from one Ask to the next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import msgspec
from amplifier_core.message_models import ChatRequest, Degradation, Message, ToolSpec

from ._messages import to_prompt
from ._options import CallOptions
from ._prompt import Image, Prompt, PromptItem, Result, User, hosted_items, is_function
from ._turn import FunctionCall, HostedCall, Item, OtherItem, Reasoning, ReplyTokens, Text, Turn

IMAGE_NOTE = "[An image was here, but this model cannot see images.]"
SURPLUS_IMAGE_NOTE = "[An image was here. The server takes only the newest.]"


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply that the server stored, and how many of the prompt's items it stored with it."""

    response_id: str
    items: int


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """The prompt as token ids, and what of the reply is there already: the model goes on after exactly these."""

    ids: tuple[int, ...]
    """The rendered prompt, without the reply."""
    in_reasoning: bool | None = None
    """Whether the prompt ends inside a `<think>` that the template has opened; None: not known yet."""
    reply: tuple[int, ...] = ()
    """The ids of the reply so far."""
    reply_text: str | None = ""
    """The text of the reply so far, with its markup and control tokens; None: not known yet."""

    @property
    def sent(self) -> tuple[int, ...]:
        """What the server is sent: the prompt, and the reply so far."""
        return (*self.ids, *self.reply)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a model, independent of the endpoint."""

    prompt: Prompt
    options: CallOptions
    reply: tuple[Item, ...] = ()
    """The items of earlier rounds. The last one, a text, is still open: the next round continues it."""
    tokens: TokenPrompt | None = None
    """The prompt and the reply so far in token ids, for `/v1/completions`, and for chat with `token_in`."""
    wants_tokens: bool = False
    """Whether the reply's token ids are asked for, because another round may continue it by them."""
    segment: str | None = None
    """With `token_in`, why the prompt does not begin with the tokens of the call before; None: it does."""
    stored: StoredReply | None = None
    item_ids: str = ""
    """What makes the ids of the items unique to one request; empty: the same history gives the same bytes."""
    degradations: tuple[Degradation, ...] = ()
    """What was removed from the request."""

    @property
    def items(self) -> tuple[PromptItem, ...]:
        """The prompt and the reply so far."""
        return (*self.prompt.items, *to_prompt_items(self.reply)) if self.reply else self.prompt.items

    @property
    def sends_prompt_ids(self) -> bool:
        """Whether a chat sends its prompt as token ids; a round that continues a reply by its items does not."""
        return self.tokens is not None and self.options.endpoint == "chat" and not self.reply

    @property
    def is_exact(self) -> bool:
        """Whether the round goes on after the token ids of the reply so far."""
        return self.tokens is not None and bool(self.tokens.reply)

    @property
    def may_call_tools(self) -> bool:
        """Whether the model may call tools."""
        return bool(self.prompt.tools or self.options.hosted_tools) and self.options.tool_choice != "none"

    @property
    def hosted_labels(self) -> frozenset[str]:
        """The labels of the MCP servers whose tools the server runs."""
        specs = [tool.model_extra or {} for tool in self.prompt.tools]
        labels = (spec.get("server_label") for spec in [*specs, *self.options.hosted_tools])
        return frozenset(label for label in labels if isinstance(label, str))

    @property
    def functions(self) -> list[ToolSpec]:
        """The tools that the model may call and the session runs."""
        return [tool for tool in self.prompt.tools if is_function(tool)] if self.may_call_tools else []


def to_ask(messages: Sequence[Message], request: ChatRequest, options: CallOptions) -> Ask:
    """The request for this history. Raises `InvalidRequestError` for content that no endpoint can encode."""
    ask = Ask(to_prompt(messages, request), options)
    if not options.vision:
        return with_newest_images(ask, 0, f"{options.model} cannot see images") or ask
    for image in _images(ask):
        _ = image.url  # raises
    return ask


def to_prompt_items(items: Sequence[Item]) -> Iterator[PromptItem]:
    """A reply's items in the form that they have in a prompt when the session sends the reply back."""
    last_call = max((n for n, item in enumerate(items) if isinstance(item, HostedCall)), default=-1)
    last_call = len(items) if any(isinstance(item, FunctionCall) for item in items) else last_call
    for place, item in enumerate(items):
        match item:
            case Text(text=text) | OtherItem(text=text):
                yield Text(text, beside_calls=place < last_call)
            case FunctionCall(call_id=call_id, name=name, arguments=arguments):
                yield FunctionCall(call_id, name, arguments)
            case HostedCall():
                yield from hosted_items(item)
            case Reasoning():
                yield item
            case _:
                assert_never(item)


def continued(ask: Ask, turn: Turn) -> Ask | None:
    """The round that continues a truncated text; None if the last round added nothing."""
    if ask.reply == turn.items:
        return None
    # The server renders the prompt and the reply so far anew.
    return replace(ask, reply=turn.items, tokens=None, segment="message mode" if ask.options.token_in else None)


def continued_by_tokens(ask: Ask, turn: Turn, new: ReplyTokens) -> Ask:
    """The round that goes on after the tokens of the reply so far."""
    before = ask.tokens or TokenPrompt(new.prompt)
    reply = (*before.reply, *new.sampled)
    text = None if new.text is None or before.reply_text is None else before.reply_text + new.text
    tokens = replace(before, reply=reply, reply_text=text)
    options = replace(ask.options, endpoint="completions")
    return replace(ask, reply=turn.items, tokens=tokens, segment=None, stored=None, options=options)


def with_more_room(ask: Ask, turn: Turn, window: int | None) -> Ask | None:
    """The same round with the rest of the window as its output cap; None if that is no more than before. Tokens."""
    cap = ask.options.max_output_tokens
    if window is None or turn.usage is None or cap is None:
        return None
    room = window - turn.usage.input_tokens
    return replace(ask, options=replace(ask.options, max_output_tokens=room)) if room > cap else None


def corrected(ask: Ask, turn: Turn, bad: FunctionCall, reason: str) -> Ask:
    """The round after an invalid call: every call of the turn gets a result, the invalid one the reason."""
    results = [Result(call.call_id, (reason if call is bad else _not_run(bad),)) for call in turn.calls]
    items = (*ask.prompt.items, *to_prompt_items(turn.items), *results)
    return replace(ask, prompt=replace(ask.prompt, items=items), reply=(), tokens=None, segment=None, stored=None)


def without_format(ask: Ask, reason: str) -> Ask | None:
    """The request without its response format; None if it has none."""
    if ask.prompt.format is None:
        return None
    requested = "json_object" if ask.prompt.format.schema is None else "json_schema"
    lost = Degradation(requested=requested, actual="text", reason=reason)
    return replace(ask, prompt=replace(ask.prompt, format=None), tokens=None, degradations=(*ask.degradations, lost))


def with_newest_images(ask: Ask, most: int, reason: str) -> Ask | None:
    """The request with its newest images, and a note in place of each older one; None if it has no more than `most`."""
    count = len(_images(ask))
    if count <= most:
        return None
    dropped, note = iter(range(count - most)), SURPLUS_IMAGE_NOTE if most else IMAGE_NOTE
    items = tuple(_with_notes(item, dropped, note) for item in ask.prompt.items)
    actual = f"the newest {most} of {count}" if most else "text"
    lost = Degradation(requested="image", actual=actual, reason=reason)
    return replace(ask, prompt=replace(ask.prompt, items=items), tokens=None, degradations=(*ask.degradations, lost))


def has_images(ask: Ask) -> bool:
    return bool(_images(ask))


def unstreamed(ask: Ask) -> Ask:
    return replace(ask, options=replace(ask.options, stream=False))


def _not_run(bad: FunctionCall) -> str:
    return f"Not run: the call of {bad.name!r} beside it was malformed. Call it again."


def _images(ask: Ask) -> list[Image]:
    pictured = (item for item in ask.prompt.items if isinstance(item, User | Result))
    return [part for item in pictured for part in item.parts if isinstance(part, Image)]


def _with_notes(item: PromptItem, dropped: Iterator[int], note: str) -> PromptItem:
    """The item with the note in place of its images, as long as `dropped` has one for each."""
    if not isinstance(item, User | Result):
        return item
    parts = tuple(note if isinstance(part, Image) and next(dropped, None) is not None else part for part in item.parts)
    return msgspec.structs.replace(item, parts=parts)
