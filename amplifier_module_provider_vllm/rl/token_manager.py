"""TokenManager: one growing sequence of tokens with its loss mask and logprobs, made of prompts and responses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True)
class Token:
    token_id: int
    logprob: float | None = None
    """None where none was given: for a prompt, and for a response without logprobs."""
    loss_mask: bool = True
    """Whether the model sampled it."""


class TokenManager:
    """Collects the tokens of a session in segments: a prompt or tool result (mask 0), or a response (mask 1).

    `add_prompt` and `add_response` append what they are given. `add_call` takes whole calls, whose prompts repeat all
    that came before, and appends only what is new.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._segments: list[list[Token]] = []
        self._sequence: list[int] = []
        self._starts: list[int] = []

    def add_prompt(self, token_ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        self._append(token_ids, logprobs, loss_mask=False)

    def add_response(self, token_ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        self._append(token_ids, logprobs, loss_mask=True)

    def add_call(
        self, prompt_token_ids: Sequence[int], token_ids: Sequence[int], logprobs: Sequence[float] | None = None
    ) -> bool:
        """Append what is new in a call. False if its prompt does not extend the sequence so far: a new one begins."""
        _check_length(token_ids, logprobs)
        known = len(self._sequence)
        extends = list(prompt_token_ids[:known]) == self._sequence
        if not extends:
            known = 0
            self._sequence = []
            self._starts.append(len(self._segments))
        self.add_prompt(prompt_token_ids[known:])
        self.add_response(token_ids, logprobs)
        return extends

    @property
    def token_ids(self) -> list[int]:
        return [token.token_id for token in self._tokens()]

    @property
    def loss_mask(self) -> list[int]:
        return [int(token.loss_mask) for token in self._tokens()]

    @property
    def logprobs(self) -> list[float | None]:
        return [token.logprob for token in self._tokens()]

    @property
    def tokens(self) -> list[Token]:
        return list(self._tokens())

    @property
    def segments(self) -> list[list[Token]]:
        return [list(segment) for segment in self._segments]

    @property
    def segment_info(self) -> list[tuple[bool, int]]:
        """Of each segment: whether the model sampled it, and its length."""
        return [(segment[0].loss_mask, len(segment)) for segment in self._segments]

    @property
    def starts(self) -> list[int]:
        """The segments at which a sequence begins: 0, and where `add_call` returned False. Train on each by itself."""
        return [0, *self._starts] if self._segments else []

    def __len__(self) -> int:
        return sum(map(len, self._segments))

    def __repr__(self) -> str:
        sampled = sum(self.loss_mask)
        return f"TokenManager(segments={len(self._segments)}, tokens={len(self)}, output_tokens={sampled})"

    def _append(self, token_ids: Sequence[int], logprobs: Sequence[float] | None, *, loss_mask: bool) -> None:
        _check_length(token_ids, logprobs)
        if not token_ids:
            return
        each: Iterable[float | None] = [None] * len(token_ids) if logprobs is None else logprobs
        self._segments.append([Token(*token, loss_mask) for token in zip(token_ids, each, strict=True)])
        self._sequence += token_ids

    def _tokens(self) -> Iterable[Token]:
        return chain.from_iterable(self._segments)


def _check_length(token_ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
    if logprobs is not None and len(logprobs) != len(token_ids):
        raise ValueError(f"logprobs: {len(token_ids)} are needed, one for each token, not {len(logprobs)}")
