"""One server and its state: its models, and what its answers have taught: windows, limits, paths that it lacks."""

import logging
import time
from dataclasses import dataclass, field

from amplifier_core.llm_errors import AbortError, ContextLengthError, InvalidRequestError, LLMError, NotFoundError

from ._config import Config
from ._constants import ANSWER_TIMEOUT, PROBE_TIMEOUT
from ._errors import failures_as_llm_errors, restarting
from ._family import Family, family_of
from ._harmony.vocabulary import Vocabulary, shared_vocabulary
from ._limits import Limits, ModelCard, limit_notes, limits_of, model_names, only_model, pick_model, window_in_refusal
from ._paths import ENDPOINT_PATHS, paths_of
from ._refusals import is_empty_not_found, is_missing_path
from ._secrets import hidden_secrets
from ._shared_operation import SharedOperation
from ._stored_replies import StoredReplies
from ._token_chains import TokenChains
from ._wire.client import Transport
from ._wire.url import normalized_url, same_server

logger = logging.getLogger(__name__)

FAILURE_MEMORY = 60.0
"""Seconds that a failed probe counts: a server without a list is not asked again, others only for a moment."""

BRIEF_PROBE_TIMEOUT = 0.2
"""Seconds that a call waits for a probe soon after one that failed: one that hangs must not delay every call."""

PromptEnd = tuple[str, tuple[int, ...]]
"""A model, and the last token ids of a prompt."""

TurnEnd = tuple[int, int]
"""The token that ends a turn, and how often a prompt with one short message has it."""


@dataclass(slots=True)
class Server:
    """The state that all completions of one provider share."""

    transport: Transport
    config: Config
    cards: list[ModelCard] = field(default_factory=list[ModelCard])
    tokenizer: Transport = field(init=False)
    """Where `/tokenize` and `/detokenize` are: at `tokenize_url`, or at the server itself."""
    stored: StoredReplies = field(default_factory=StoredReplies)
    chains: TokenChains = field(default_factory=TokenChains)
    vocabulary: Vocabulary = field(default_factory=shared_vocabulary)
    most_images: dict[str, int] = field(default_factory=dict[str, int])
    """The images that a request may have, for models that refused some."""
    probed: bool = False
    """Whether the server has been asked for its models, with or without an answer."""
    has_responses: bool = True
    """False as soon as the server is known to have no `/v1/responses`."""
    parses_calls: bool = True
    """False as soon as the server has refused tools at chat, because it was started without a parser for calls."""
    tokenizes: bool = True
    """False as soon as the server is known to have no `/tokenize`."""
    gives_tokens: bool = True
    """False as soon as the server has refused to give token ids."""
    goes_on_by_tokens: bool = True
    """False as soon as the server is known to lack what goes on from token ids."""
    takes_prompt_ids: bool = True
    """False as soon as the server is known to take no prompt in token ids at chat."""
    turn_ends: dict[tuple[bytes, ...], TurnEnd] = field(default_factory=dict[tuple[bytes, ...], TurnEnd])
    """By the settings of a request that its template reads."""
    open_thoughts: dict[PromptEnd, bool] = field(default_factory=dict[PromptEnd, bool])
    """Whether a prompt with this end is inside a thought that the template has opened."""
    outdated: bool = False
    """Whether the server refused a model that it had listed."""
    _announced: set[str] = field(default_factory=set[str])
    _learned_windows: dict[str, int] = field(default_factory=dict[str, int])
    _failed_at: float | None = None
    """The time of the last failed probe, on the monotonic clock."""
    _has_no_list: bool = False
    _listing: SharedOperation = field(init=False)

    def __post_init__(self) -> None:
        self._listing = SharedOperation(self._list_models)
        other = self.config.tokenize_url
        if other is None or same_server(other, self.config.base_url):
            self.tokenizer = self.transport
        else:  # which gets no key and no header of this one
            self.tokenizer = Transport(normalized_url(other), "", {}, None)

    @property
    def default_model(self) -> str | None:
        """The model that calls ask unless they name another, as far as it is known."""
        return self.config.default_model or only_model(self.cards)

    async def probe(self, max_wait: float = PROBE_TIMEOUT) -> None:
        """Ask the server for its models, all callers at once with one request.

        Raises `LLMError` if it does not answer within `max_wait` seconds. The request goes on for the next caller.
        """
        self.probed = True
        with failures_as_llm_errors(None, self.transport.url, f"no list of models within {max_wait:g} s"):
            try:
                await self._listing.wait(max_wait)
            except TimeoutError:
                self._failed_at = time.monotonic()
                raise

    async def close(self) -> None:
        await self._listing.cancel()
        await self.transport.close()
        if self.tokenizer is not self.transport:
            await self.tokenizer.close()

    async def _list_models(self) -> None:
        try:
            self.cards = await self.transport.model_cards(ANSWER_TIMEOUT)
        except LLMError as error:
            self._failed_at = time.monotonic()
            self._has_no_list = not (error.retryable or is_empty_not_found(error))
            raise
        self._failed_at, self._has_no_list, self.outdated = None, False, False
        if self.default_model is not None:
            self._log_limits(self.default_model)

    async def model(self, requested: str | None) -> str:
        """The model to ask, after a probe for its limits if needed.

        Raises `LLMError` only if the probe had to find the model: a server without a model list can still complete.
        """
        recently_failed = self._failed_at is not None and time.monotonic() - self._failed_at < FAILURE_MEMORY
        if (not self.cards or self.outdated) and (requested is None or not (recently_failed and self._has_no_list)):
            try:
                await self.probe(BRIEF_PROBE_TIMEOUT if recently_failed and requested is not None else PROBE_TIMEOUT)
            except LLMError as error:
                self._raise_if_needed(error, requested)
        with hidden_secrets(self.transport.secrets):  # the names of models are the server's words
            model = pick_model(requested, self.cards, self.transport.url)
        self._log_limits(model)
        return model

    def _raise_if_needed(self, error: LLMError, requested: str | None) -> None:
        """Raise the error of a probe that had to find the model."""
        if isinstance(error, AbortError):
            raise error
        if requested is not None or self.cards:
            return
        if is_empty_not_found(error) and self.config.startup_timeout:
            raise restarting(error) from error
        if not isinstance(error, NotFoundError):
            raise error

    async def lacks_responses(self) -> bool:
        """Whether the server has no `/v1/responses`, by its own description or else by what it has.

        A server that restarts behind a gateway lacks every path for a while.
        """
        try:
            paths = paths_of(await self.transport.get_root("/openapi.json", PROBE_TIMEOUT))
        except LLMError:
            paths = None
        if paths is not None:
            return ENDPOINT_PATHS["responses"] not in paths
        return await self._has(ENDPOINT_PATHS["chat"]) and not await self._has(ENDPOINT_PATHS["responses"])

    async def _has(self, path: str) -> bool:
        """Whether the server refuses an empty body at a path, as it does where it has the path."""
        try:
            await self.transport.post(path, {}, PROBE_TIMEOUT)
        except (InvalidRequestError, NotFoundError) as error:
            return not (is_missing_path(error) or is_empty_not_found(error))
        except LLMError:
            return False
        return True

    def family(self, model: str) -> Family:
        return family_of(*model_names(model, self.cards))

    def limits(self, model: str | None) -> Limits:
        window = self._learned_windows.get(model or "")
        if model is None or window is None:
            return limits_of(model, self.cards, self.config)
        return limits_of(model, [*self.cards, ModelCard(model, max_model_len=window)], self.config)

    def is_new(self, fact: str) -> bool:
        """Whether a fact is announced for the first time: the next request has the same history and server."""
        known = fact in self._announced
        self._announced.add(fact)
        return not known

    def warn_once(self, sentence: str) -> None:
        """Log a warning about the server only once, although it applies to every reply."""
        self._log_once(logging.WARNING, sentence)

    def announce(self, fact: str) -> None:
        """Log a fact about the server, once."""
        self._log_once(logging.INFO, fact)

    def _log_limits(self, model: str) -> None:
        for level, sentence in limit_notes(model, self.limits(model), self.config):
            self._log_once(level, sentence)

    def _log_once(self, level: int, sentence: str) -> None:
        if self.is_new(sentence):
            logger.log(level, "[PROVIDER] vLLM at %s: %s", self.transport.url, sentence)

    def learn(self, model: str, refusal: ContextLengthError) -> None:
        """Remember the window in a refusal; behind a gateway that may be the only source."""
        window = window_in_refusal(str(refusal))
        if window is not None:
            self.learn_window(model, window)

    def learn_window(self, model: str, window: int) -> None:
        """Remember a window, in tokens, that the server's list of models did not have."""
        self._learned_windows[model] = window
        self._log_limits(model)
