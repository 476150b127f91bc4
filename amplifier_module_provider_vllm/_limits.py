"""Read model cards and refusals, and derive the limits that a session plans with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from amplifier_core.llm_errors import ConfigurationError

from ._config import Config
from ._constants import FALLBACK_CONTEXT_WINDOW, FALLBACK_MAX_OUTPUT_TOKENS, PROVIDER


class ModelCard(msgspec.Struct, frozen=True):
    """A model of `/v1/models`. vLLM sends `max_model_len`, gateways such as LiteLLM `max_input_tokens`."""

    id: str
    max_model_len: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    root: str | None = None
    parent: str | None = None


class _Cards(msgspec.Struct, frozen=True):
    data: list[ModelCard]


_cards = msgspec.json.Decoder(_Cards)


def read_cards(body: bytes) -> list[ModelCard]:
    """The models with a valid name. Raises `msgspec.MsgspecError` for a body without a list."""
    return [card for card in _cards.decode(body).data if card.id and card.id.isprintable()]


def model_names(model: str, cards: Sequence[ModelCard]) -> list[str]:
    """The served name of a model, and the names of its checkpoint and base model, if the server gives them."""
    roots = [name for card in cards if card.id == model for name in (card.root, card.parent)]
    return [name for name in (model, *roots) if name]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in tokens. `from_server`: whether the window is the server's, not a fallback."""

    context_window: int
    max_output_tokens: int
    from_server: bool


def limits_of(model: str | None, cards: Sequence[ModelCard], config: Config) -> Limits:
    """The limits of a model: the config's, clamped to the server's."""
    server_window, server_output = _card_limits(model or only_model(cards), {card.id: card for card in cards})
    window = _least(config.context_window, server_window) or FALLBACK_CONTEXT_WINDOW
    half = max(1, window // 2)
    fallback = half if server_window is not None or config.context_window is not None else FALLBACK_MAX_OUTPUT_TOKENS
    largest_output = min(config.max_output_tokens or fallback, server_output or fallback, half)
    return Limits(window, largest_output, from_server=server_window is not None)


def pick_model(requested: str | None, cards: Sequence[ModelCard], url: str) -> str:
    """The model to ask: the requested one, else the only one served. Raises `ConfigurationError` if several are."""
    if requested:
        return requested
    only = only_model(cards)
    if only is not None:
        return only
    if not cards:
        raise ConfigurationError(f"{url} lists no models; set `default_model` to the one to ask", provider=PROVIDER)
    names = ", ".join(card.id for card in cards)
    raise ConfigurationError(f"{url} serves several models; set `default_model` to one of: {names}", provider=PROVIDER)


def only_model(cards: Sequence[ModelCard]) -> str | None:
    """The served model, if there is only one. A LoRA adapter beside its base model does not count."""
    names = {card.id for card in cards if card.parent is None} or {card.id for card in cards}
    return names.pop() if len(names) == 1 else None


def window_in_refusal(refusal: str) -> int | None:
    """The window, in tokens, in the text of a refusal (vLLM 0.32: "maximum context length is 4096 tokens")."""
    match = re.search(
        r"maximum (?:context|model) length(?: is| of)? \(?(\d+)|max_model_len(?: of|=| )\s*(\d+)", refusal
    )
    return int(match.group(1) or match.group(2)) if match else None


def _card_limits(model: str | None, cards: dict[str, ModelCard]) -> tuple[int | None, int | None]:
    """Window and output limit of a model; for a LoRA adapter those of its base model."""
    card = cards.get(model or "")
    visited: set[str] = set()
    while card is not None and card.id not in visited:
        visited.add(card.id)
        window = _positive(card.max_model_len) or _positive(card.max_input_tokens)
        if window is not None:
            return window, _positive(card.max_output_tokens)
        card = cards.get(card.parent or "")
    return None, None


def _positive(tokens: int | None) -> int | None:
    """Gateways send 0 or -1 for an unknown limit."""
    return tokens if tokens is not None and tokens > 0 else None


def _least(*values: int | None) -> int | None:
    limits = [value for value in values if value is not None]
    return min(limits) if limits else None
