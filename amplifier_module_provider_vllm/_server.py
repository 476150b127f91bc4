"""One server and its state: its models, and the context windows learned from its refusals."""

import logging
import time
from dataclasses import dataclass, field

from amplifier_core.llm_errors import ContextLengthError, LLMError, NotFoundError

from ._config import Config
from ._constants import PROBE_TIMEOUT
from ._family import Family, family_of
from ._harmony.vocabulary import Vocabulary, shared_vocabulary
from ._limits import Limits, ModelCard, limits_of, model_names, pick_model, window_in_refusal
from ._stored import StoredReplies
from ._wire.client import Transport

logger = logging.getLogger(__name__)

REPROBE_AFTER = 60.0
"""Seconds; a server that does not answer probes would otherwise delay every call by the probe's timeout."""


@dataclass(slots=True)
class Server:
    """The state that all completions of one provider share."""

    transport: Transport
    config: Config
    cards: list[ModelCard] = field(default_factory=list[ModelCard])
    stored: StoredReplies = field(default_factory=StoredReplies)
    vocabulary: Vocabulary = field(default_factory=shared_vocabulary)
    no_images: set[str] = field(default_factory=set[str])
    """Models that refused an image."""
    probed_at: float | None = None
    """The time of the last probe, on the monotonic clock."""
    announced_repairs: set[str] = field(default_factory=set[str])
    """Ids of calls and results whose repair has been announced."""
    _warned: set[str] = field(default_factory=set[str])
    _learned_windows: dict[str, int] = field(default_factory=dict[str, int])

    async def probe(self, max_wait: float = PROBE_TIMEOUT) -> None:
        """Ask the server for its models. Raises `LLMError` if it does not answer within `max_wait` seconds."""
        self.probed_at = time.monotonic()
        self.cards = await self.transport.model_cards(max_wait)

    async def model(self, requested: str | None) -> str:
        """The model to ask, after a probe for its limits if needed.

        Raises `LLMError` only if the probe had to find the model: a server without a model list can still complete.
        """
        if not self.cards and (requested is None or self._may_probe_again()):
            try:
                await self.probe()
            except LLMError as error:
                if requested is None and not isinstance(error, NotFoundError):
                    raise
        return pick_model(requested, self.cards, self.transport.url)

    def _may_probe_again(self) -> bool:
        """Whether to probe again a server that listed no models: it may have been loading."""
        return self.probed_at is None or time.monotonic() - self.probed_at > REPROBE_AFTER

    def family(self, model: str) -> Family:
        return family_of(*model_names(model, self.cards))

    def limits(self, model: str | None) -> Limits:
        window = self._learned_windows.get(model or "")
        if model is None or window is None:
            return limits_of(model, self.cards, self.config)
        return limits_of(model, [*self.cards, ModelCard(model, max_model_len=window)], self.config)

    def warn_once(self, sentence: str) -> None:
        """Log a warning about the server only once, although it applies to every reply."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            logger.warning("[PROVIDER] vLLM at %s: %s", self.transport.url, sentence)

    def learn(self, model: str, refusal: ContextLengthError) -> None:
        """Remember the window in a refusal; behind a gateway that may be the only source."""
        window = window_in_refusal(str(refusal))
        if window is not None:
            self._learned_windows[model] = window
