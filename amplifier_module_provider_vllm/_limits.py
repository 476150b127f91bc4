"""Read model cards and refusals, and derive the limits that a session plans with."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Final

import msgspec
from amplifier_core.llm_errors import ConfigurationError

from ._config import Config
from ._constants import FALLBACK_CONTEXT_WINDOW, PROVIDER

LARGEST_SILENT_OUTPUT: Final = 16_384
"""Tokens of output to advertise if the config is silent. Context managers take them from the room for the history."""

WHOLE_NUMBER: Final = re.compile(r"\s*[0-9]{1,18}(\.0*)?\s*")


class ModelCard(msgspec.Struct, frozen=True):
    """A model of `/v1/models`. vLLM sends `max_model_len`, gateways such as LiteLLM `max_input_tokens`."""

    id: str
    max_model_len: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    root: str | None = None
    parent: str | None = None


class _WireCard(msgspec.Struct, frozen=True):
    """Raw fields: gateways send strings and floats, and one odd value must not cost the other models."""

    id: str
    max_model_len: msgspec.Raw = msgspec.Raw(b"null")
    max_input_tokens: msgspec.Raw = msgspec.Raw(b"null")
    max_output_tokens: msgspec.Raw = msgspec.Raw(b"null")
    root: msgspec.Raw = msgspec.Raw(b"null")
    parent: msgspec.Raw = msgspec.Raw(b"null")


class _Cards(msgspec.Struct, frozen=True):
    data: list[msgspec.Raw]


_cards = msgspec.json.Decoder(_Cards)
_card = msgspec.json.Decoder(_WireCard)


def read_cards(body: bytes) -> list[ModelCard]:
    """The models with a valid name. Raises `msgspec.MsgspecError` for a body without a list, or without any model."""
    cards: list[ModelCard] = []
    refused: msgspec.MsgspecError | None = None
    for raw in _cards.decode(body).data:
        try:
            cards.append(_read_card(raw))
        except msgspec.MsgspecError as error:
            refused = error
    if refused is not None and not cards:
        raise refused
    return [card for card in cards if card.id and card.id.isprintable()]


def _read_card(raw: msgspec.Raw) -> ModelCard:
    wire = _card.decode(raw)
    return ModelCard(
        wire.id,
        max_model_len=_tokens(wire.max_model_len),
        max_input_tokens=_tokens(wire.max_input_tokens),
        max_output_tokens=_tokens(wire.max_output_tokens),
        root=_name(wire.root),
        parent=_name(wire.parent),
    )


def _tokens(raw: msgspec.Raw) -> int | None:
    """A positive number of tokens, also as a string or a float; gateways send 0 or -1 for an unknown limit."""
    match _value(raw):
        case bool():
            return None
        case int() | float() as number if 1 <= number < 10**18:
            return int(number)
        case str(text) if WHOLE_NUMBER.fullmatch(text):
            return int(text.partition(".")[0]) or None
        case _:
            return None


def _name(raw: msgspec.Raw) -> str | None:
    value = _value(raw)
    return value if isinstance(value, str) else None


def _value(raw: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(raw)
    except msgspec.MsgspecError:  # such as a number that is too large
        return None


def model_names(model: str, cards: Sequence[ModelCard]) -> list[str]:
    """The served name of a model, and the names of its checkpoint and base model, if the server gives them."""
    roots = [name for card in cards if card.id == model for name in (card.root, card.parent)]
    return [name for name in (model, *roots) if name]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in tokens."""

    context_window: int
    max_output_tokens: int
    """What a session is told to keep free for a reply."""
    largest_reply: int
    """The cap of a reply that nobody else capped. vLLM lowers it to the room that the prompt leaves."""
    from_server: bool
    """Whether the window is the server's, not a fallback."""


def limits_of(model: str | None, cards: Sequence[ModelCard], config: Config) -> Limits:
    """The limits of a model: the config's, clamped to the server's."""
    server_window, server_output = _card_limits(model or only_model(cards), {card.id: card for card in cards})
    window = _least(config.context_window, server_window) or FALLBACK_CONTEXT_WINDOW
    half, quarter = max(1, window // 2), max(1, window // 4)
    largest_reply = min(config.max_output_tokens or half, server_output or half, half)
    silent = LARGEST_SILENT_OUTPUT if window >= LARGEST_SILENT_OUTPUT else quarter
    advertised = largest_reply if config.max_output_tokens is not None else min(silent, largest_reply)
    return Limits(window, advertised, largest_reply, from_server=server_window is not None)


def limit_notes(model: str, limits: Limits, config: Config) -> Iterator[tuple[int, str]]:
    """What an operator should know of a model's limits: the log level and the sentence."""
    window, output = config.context_window, config.max_output_tokens
    if window is not None and window > limits.context_window:
        lowered = f"`context_window` {window:,} is lowered to the server's {limits.context_window:,} tokens"
        yield WARNING, f"{model}: {lowered}"
    elif limits.from_server:
        yield INFO, f"{model}: planning with a window of {limits.context_window:,} tokens"
    else:
        source = "not known, assuming" if window is None else "taken from the config:"
        yield INFO, f"{model}: the server's window is {source} {limits.context_window:,} tokens"
    if output is not None and output > limits.max_output_tokens:
        yield WARNING, f"{model}: `max_output_tokens` {output:,} is lowered to {limits.max_output_tokens:,}"


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
        window = card.max_model_len or card.max_input_tokens
        if window is not None:
            return window, card.max_output_tokens
        card = cards.get(card.parent or "")
    return None, None


def _least(*values: int | None) -> int | None:
    limits = [value for value in values if value is not None]
    return min(limits) if limits else None
