"""One server, and what is known of it: its models, and the windows that its refusals named."""

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
"""Seconds; a server that lets such questions hang would otherwise cost every call the probe's timeout."""


@dataclass(slots=True)
class Server:
    """What every completion of one provider shares."""

    transport: Transport
    config: Config
    cards: list[ModelCard] = field(default_factory=list)
    stored: StoredReplies = field(default_factory=StoredReplies)
    vocabulary: Vocabulary = field(default_factory=shared_vocabulary)
    no_images: set[str] = field(default_factory=set)
    """Models that refused an image."""
    probed_at: float | None = None
    """When the server was last asked for its models, on the monotonic clock."""
    _warned: set[str] = field(default_factory=set)
    _learned_windows: dict[str, int] = field(default_factory=dict)

    async def probe(self, max_wait: float = PROBE_TIMEOUT) -> None:
        """Ask the server for its models. Raises `LLMError` if it does not answer within `max_wait` seconds."""
        self.probed_at = time.monotonic()
        self.cards = await self.transport.model_cards(max_wait)

    async def model(self, requested: str | None) -> str:
        """The model to ask, once the server was asked for its limits.

        Raises `LLMError` only where that cost us the model: a server without a list can still complete.
        """
        if not self.cards and (requested is None or self._may_probe_again()):
            try:
                await self.probe()
            except LLMError as error:
                if requested is None and not isinstance(error, NotFoundError):
                    raise
        return pick_model(requested, self.cards, self.transport.url)

    def _may_probe_again(self) -> bool:
        """Whether a server that did not list its models is asked again: it may have been loading."""
        return self.probed_at is None or time.monotonic() - self.probed_at > REPROBE_AFTER

    def family(self, model: str) -> Family:
        return family_of(*model_names(model, self.cards))

    def limits(self, model: str | None) -> Limits:
        window = self._learned_windows.get(model or "")
        if model is None or window is None:
            return limits_of(model, self.cards, self.config)
        return limits_of(model, [*self.cards, ModelCard(model, max_model_len=window)], self.config)

    def warn_once(self, sentence: str) -> None:
        """Tell the operator something of the server that is true of every reply."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            logger.warning("[PROVIDER] vLLM at %s: %s", self.transport.url, sentence)

    def learn(self, model: str, refusal: ContextLengthError) -> None:
        """Remember the window that a refusal named; a server behind a gateway may have no other way to say it."""
        window = window_in_refusal(str(refusal))
        if window is not None:
            self._learned_windows[model] = window
