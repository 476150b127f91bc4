"""The Turn of a text completion: how it ended, its usage, token ids and log probabilities."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from .._ask import Ask
from .._reply_values import chat_usage, text_id
from .._strict_json import Json
from .._turn import Item, ReplyTokens, Status, TokenLogprob, TokenUsage, TopLogprob, Turn
from .events import Choice, Chunk, WireLogprobs

INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The finish reasons of a reply that is not complete, in the words of a Turn."""


@dataclass(slots=True)
class Ending:
    """What the chunks of one reply tell of the whole of it."""

    finish_reason: str | None = None
    usage: Json = None
    response_id: str | int | None = None
    model: str | None = None
    texts: list[str] = field(default_factory=list[str])
    sampled: list[int] = field(default_factory=list[int])
    prompt: Sequence[int] | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])

    @property
    def incomplete_reason(self) -> str | None:
        return INCOMPLETE.get(self.finish_reason or "")

    def add_head(self, chunk: Chunk) -> None:
        self.response_id = chunk.id or self.response_id
        self.model = chunk.model or self.model
        if chunk.usage is not None:
            self.usage = chunk.usage

    def add_choice(self, choice: Choice, alternatives: int | None) -> int:
        """The number of log probabilities that the choice adds."""
        if choice.finish_reason:  # some servers have an empty one in every chunk
            self.finish_reason = choice.finish_reason
        if choice.prompt_token_ids is not None:
            self.prompt = choice.prompt_token_ids
        if choice.token_ids:
            self.sampled += choice.token_ids
        if choice.logprobs is None or alternatives is None:
            return 0
        new = read_logprobs(choice.logprobs, alternatives)
        self.logprobs += new
        return len(new) * (1 + alternatives)

    def to_turn(self, items: tuple[Item, ...], ask: Ask, reasoning_tokens: int, raw: bytes | None) -> Turn:
        """`reasoning_tokens`: our own count, for a server that does not tell it."""
        usage = self._usage(reasoning_tokens)
        echoed = usage.input_tokens if ask.options.echo and usage is not None else 0
        return Turn(
            items=items,
            status=Status.COMPLETED if self.incomplete_reason is None else Status.INCOMPLETE,
            response_id=text_id(self.response_id),
            model=self.model,
            usage=usage,
            incomplete_reason=self.incomplete_reason,
            tokens=self._tokens(ask),
            logprobs=tuple(self.logprobs[echoed:]) or None,
            raw=self._raw() if raw is None else raw,
        )

    def _usage(self, reasoning_tokens: int) -> TokenUsage | None:
        usage = chat_usage(self.usage)
        if usage is None or usage.reasoning_tokens is not None or not self.sampled:
            return usage
        return replace(usage, reasoning_tokens=reasoning_tokens)

    def _tokens(self, ask: Ask) -> ReplyTokens | None:
        sent = () if ask.tokens is None else ask.tokens.sent
        prompt = sent if self.prompt is None else tuple(self.prompt)
        return ReplyTokens(prompt, tuple(self.sampled), "".join(self.texts)) if prompt and self.sampled else None

    def _raw(self) -> bytes:
        """The reply as the server would send it unstreamed, for the debug events."""
        choice = {"index": 0, "text": "".join(self.texts), "finish_reason": self.finish_reason}
        return msgspec.json.encode(
            {"id": self.response_id, "model": self.model, "choices": [choice], "usage": self.usage}
        )


def read_logprobs(told: Json, alternatives: int) -> list[TokenLogprob]:
    """One entry per token, with at most so many of the most probable tokens at its place; none of an odd form."""
    try:
        return list(_entries(msgspec.convert(told, WireLogprobs), alternatives))
    except msgspec.ValidationError:
        return []


def _entries(part: WireLogprobs, alternatives: int) -> Iterator[TokenLogprob]:
    values, tops = part.token_logprobs or (), part.top_logprobs or ()
    for place, token in enumerate(part.tokens or ()):
        value = values[place] if place < len(values) else None
        top = tops[place] if place < len(tops) else None
        yield TokenLogprob(token, value or 0.0, _bytes(token), _most_probable(top or {}, alternatives))


def _most_probable(top: Mapping[str, float], most: int) -> tuple[TopLogprob, ...]:
    """vLLM adds the sampled token to the most probable ones."""
    ranked = sorted(top.items(), key=lambda entry: -entry[1])
    return tuple(TopLogprob(token, value, _bytes(token)) for token, value in ranked[:most])


def _bytes(token: str) -> list[int] | None:
    """The UTF-8 bytes of a token; None for a part of a character, and for a token that is named by its id."""
    if "\ufffd" in token or token.startswith(("token_id:", "bytes:")):
        return None
    return list(token.encode())
