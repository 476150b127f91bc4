"""TokenManager: one growing sequence of tokens with its loss mask and logprobs, made of prompts and responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True)
class Token:
    token_id: int
    logprob: float | None = None
    """None where none was given: for a prompt, and for a response without logprobs."""
    loss_mask: bool = True
    """Whether the model sampled it."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Tokens that were added together. A `Token` is made of each only when asked for: a prompt has thousands."""

    token_ids: Sequence[int]
    logprobs: Sequence[float | None]
    sampled: bool

    def tokens(self) -> list[Token]:
        pairs = zip(self.token_ids, self.logprobs, strict=True)
        return [Token(token_id, logprob, self.sampled) for token_id, logprob in pairs]


class TokenManager:
    """Collects the tokens of a session in segments: a prompt or tool result (mask 0), or a response (mask 1).

    `add_prompt` and `add_response` append what they are given. `add_call` takes whole calls, whose prompts repeat all
    that came before, and appends only what is new.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._runs: list[_Run] = []
        self._sequence: list[int] = []
        self._starts: list[int] = []

    def add_prompt(self, token_ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        self._append(token_ids, logprobs, sampled=False)

    def add_response(self, token_ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        self._append(token_ids, logprobs, sampled=True)

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
            self._starts.append(len(self._runs))
        self.add_prompt(prompt_token_ids[known:])
        self.add_response(token_ids, logprobs)
        return extends

    @property
    def token_ids(self) -> list[int]:
        return list(chain.from_iterable(run.token_ids for run in self._runs))

    @property
    def loss_mask(self) -> list[int]:
        return list(chain.from_iterable([int(run.sampled)] * len(run.token_ids) for run in self._runs))

    @property
    def logprobs(self) -> list[float | None]:
        return list(chain.from_iterable(run.logprobs for run in self._runs))

    @property
    def tokens(self) -> list[Token]:
        return list(chain.from_iterable(self.segments))

    @property
    def segments(self) -> list[list[Token]]:
        return [run.tokens() for run in self._runs]

    @property
    def segment_info(self) -> list[tuple[bool, int]]:
        """Of each segment: whether the model sampled it, and its length."""
        return [(run.sampled, len(run.token_ids)) for run in self._runs]

    @property
    def starts(self) -> list[int]:
        """The segments at which a sequence begins: 0, and where `add_call` returned False. Train on each by itself."""
        # A call without any token leaves no segment to begin with.
        return sorted({0, *self._starts} - {len(self._runs)})

    def __len__(self) -> int:
        return sum(len(run.token_ids) for run in self._runs)

    def __repr__(self) -> str:
        sampled = sum(len(run.token_ids) for run in self._runs if run.sampled)
        return f"TokenManager(segments={len(self._runs)}, tokens={len(self)}, output_tokens={sampled})"

    def _append(self, token_ids: Sequence[int], logprobs: Sequence[float] | None, *, sampled: bool) -> None:
        _check_length(token_ids, logprobs)
        if not token_ids:
            return
        each = (None,) * len(token_ids) if logprobs is None else tuple(logprobs)
        self._runs.append(_Run(tuple(token_ids), each, sampled))
        self._sequence += token_ids


def _check_length(token_ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
    if logprobs is not None and len(logprobs) != len(token_ids):
        raise ValueError(f"logprobs: {len(token_ids)} are needed, one for each token, not {len(logprobs)}")
