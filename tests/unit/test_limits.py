"""A server's limits: read from cards and refusals, capped by the config, never above the server's own."""

import json
from logging import INFO, WARNING
from typing import Any

import msgspec
import pytest
from amplifier_core.llm_errors import ConfigurationError

from amplifier_module_provider_vllm._config import Config
from amplifier_module_provider_vllm._config_reading import read_config
from amplifier_module_provider_vllm._limits import (
    Limits,
    ModelCard,
    limit_notes,
    limits_of,
    pick_model,
    read_cards,
    window_in_refusal,
)
from tests.support.recordings import load_recording

QWEN = ModelCard("qwen", max_model_len=40_960)
GATEWAY = ModelCard("gateway", max_input_tokens=32_000, max_output_tokens=4_000)
LORA = ModelCard("lora", parent="qwen")
LORA_OF_LORA = ModelCard("lora-2", parent="lora")
SILENT = ModelCard("silent")
IN_CIRCLES = ModelCard("a", parent="b"), ModelCard("b", parent="a")
URL = "http://vllm.test/v1"


@pytest.mark.parametrize("group", ["tiny-qwen3", "tiny-gpt-oss"])
def test_the_model_card_of_a_real_server_is_read(group: str) -> None:
    cards = read_cards(load_recording(group, "get_v1_models").body)

    (card,) = cards
    assert (card.id, card.max_model_len, card.parent) == (group, 4096, None)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"data": null}', b'{"data": [{}]}', b'{"data": [{"id": 1}]}']
)
def test_a_body_that_lists_no_models_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_cards(body)


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (131072, 131_072), ("131072", 131_072), (" 131072 ", 131_072), ("131072.0", 131_072), (131072.0, 131_072),
        (131072.5, 131_072), ("131072.5", None), ("128k", None), ("abc", None), ("", None), ("-1", None), ("0", None),
        ("\N{FULLWIDTH DIGIT ONE}", None), ("9" * 5000, None), (0, None), (-1, None), (0.5, None), (1e300, None),
        (10**30, None), (True, None), ([], None), ({}, None), (None, None),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_an_odd_limit_costs_only_its_field(value: object, tokens: int | None) -> None:
    odd = {"id": "odd", "max_model_len": value, "max_input_tokens": 1_000, "root": value, "max_output_tokens": value}
    body = json.dumps({"data": [odd, {"id": "qwen", "max_model_len": 40_960}]}).encode()

    first, second = read_cards(body)

    assert (first.max_model_len, first.max_input_tokens, first.max_output_tokens) == (tokens, 1_000, tokens)
    assert first.root == (value if isinstance(value, str) else None)
    assert limits_of("odd", [first], Config()).context_window == (tokens or 1_000)
    assert second == QWEN


@pytest.mark.parametrize(
    "bad", ["5", "null", '"qwen"', "[]", "{}", '{"id": 5}', '{"id": null}', '{"id": "x", "max_model_len": 1e999}']
)
def test_a_bad_card_costs_only_itself(bad: str) -> None:
    cards = read_cards(f'{{"data": [{bad}, {{"id": "qwen", "max_model_len": 40960}}]}}'.encode())

    assert cards[-1] == QWEN
    assert [card.max_model_len for card in cards[:-1]] == ([None] if "x" in bad else [])


@pytest.mark.parametrize(
    ("config", "cards", "notes"),
    [
        ({}, [QWEN], [(INFO, "qwen: planning with a window of 40,960 tokens")]),
        ({}, [], [(INFO, "qwen: the server's window is not known, assuming 128,000 tokens")]),
        ({"context_window": 9_000}, [], [(INFO, "qwen: the server's window is taken from the config: 9,000 tokens")]),
        (
            {"context_window": 131_072},
            [QWEN],
            [(WARNING, "qwen: `context_window` 131,072 is lowered to the server's 40,960 tokens")],
        ),
        (
            {"context_window": 9_000, "max_output_tokens": 5_000},
            [QWEN],
            [
                (INFO, "qwen: planning with a window of 9,000 tokens"),
                (WARNING, "qwen: `max_output_tokens` 5,000 is lowered to 4,500"),
            ],
        ),
    ],
    ids=["discovered", "assumed", "configured", "a window lowered", "an output lowered"],
)
def test_the_limits_are_explained(config: dict[str, Any], cards: list[ModelCard], notes: list[tuple[int, str]]) -> None:
    read = read_config(config, {})

    assert list(limit_notes("qwen", limits_of("qwen", cards, read), read)) == notes


@pytest.mark.parametrize(
    ("model", "cards", "config", "expected"),
    [
        ("qwen", [QWEN], {}, Limits(40_960, 16_384, 20_480, from_server=True)),
        (None, [QWEN], {}, Limits(40_960, 16_384, 20_480, from_server=True)),
        (None, [QWEN, LORA], {}, Limits(40_960, 16_384, 20_480, from_server=True)),
        ("gateway", [QWEN, GATEWAY], {}, Limits(32_000, 4_000, 4_000, from_server=True)),
        ("lora", [QWEN, LORA], {}, Limits(40_960, 16_384, 20_480, from_server=True)),
        ("lora-2", [LORA_OF_LORA, QWEN, LORA], {}, Limits(40_960, 16_384, 20_480, from_server=True)),
        ("lora", [LORA], {}, Limits(128_000, 16_384, 64_000, from_server=False)),
        ("a", IN_CIRCLES, {}, Limits(128_000, 16_384, 64_000, from_server=False)),
        ("silent", [SILENT], {}, Limits(128_000, 16_384, 64_000, from_server=False)),
        ("unknown", [QWEN], {}, Limits(128_000, 16_384, 64_000, from_server=False)),
        (None, [QWEN, GATEWAY], {}, Limits(128_000, 16_384, 64_000, from_server=False)),
        (None, [], {}, Limits(128_000, 16_384, 64_000, from_server=False)),
        ("qwen", [QWEN], {"context_window": 8_192}, Limits(8_192, 2_048, 4_096, from_server=True)),
        ("qwen", [QWEN], {"context_window": 1_000_000}, Limits(40_960, 16_384, 20_480, from_server=True)),
        ("qwen", [QWEN], {"max_output_tokens": 1_024}, Limits(40_960, 1_024, 1_024, from_server=True)),
        ("qwen", [QWEN], {"max_output_tokens": 40_000}, Limits(40_960, 20_480, 20_480, from_server=True)),
        (None, [], {"context_window": 8_192}, Limits(8_192, 2_048, 4_096, from_server=False)),
        (None, [], {"max_output_tokens": 1_024}, Limits(128_000, 1_024, 1_024, from_server=False)),
        ("tiny", [ModelCard("tiny", max_model_len=1)], {}, Limits(1, 1, 1, from_server=True)),
        ("m", [ModelCard("m", max_model_len=262_144)], {}, Limits(262_144, 16_384, 131_072, from_server=True)),
        ("m", [ModelCard("m", max_model_len=16_384)], {}, Limits(16_384, 8_192, 8_192, from_server=True)),
        ("m", [ModelCard("m", max_model_len=16_383)], {}, Limits(16_383, 4_095, 8_191, from_server=True)),
    ],
    ids=[
        "the model's card", "the only card", "the only base model", "a gateway's card", "a LoRA", "a LoRA of a LoRA",
        "a LoRA without parent", "parents in a circle", "a card that says nothing", "an unknown model",
        "several models", "no cards", "a smaller window", "a window above the server's", "a smaller output",
        "an output above half the window", "a window without cards", "an output without cards", "a window of one",
        "a large window", "the smallest window without a quarter", "the largest window with a quarter",
    ],
)  # fmt: skip
def test_the_limits_come_from_config_and_card(
    model: str | None, cards: list[ModelCard], config: dict[str, Any], expected: Limits
) -> None:
    assert limits_of(model, cards, read_config(config, {})) == expected


@pytest.mark.parametrize(
    ("message", "window"),
    [
        (load_recording("tiny-qwen3", "ctx_overflow").json["error"]["message"], 4096),
        (load_recording("tiny-gpt-oss", "ctx_overflow").json["error"]["message"], 4096),
        (load_recording("tiny-qwen3", "max_output_tokens_100000").json["error"]["message"], 4096),
        ("Input length (6068) exceeds model's maximum context length (4096).", 4096),
        ("The engine prompt length 9 exceeds the max_model_len 8. Please reduce prompt.", 8),
        ("This prompt is longer than the maximum model length of 8192.", 8192),
        ("prompt is too long", None),
        ("", None),
    ],
    ids=["Qwen", "gpt-oss", "output above the window", "chat", "engine", "old", "no number", "nothing"],
)
def test_the_window_is_read_from_a_refusal(message: str, window: int | None) -> None:
    assert window_in_refusal(message) == window


@pytest.mark.parametrize(
    ("requested", "cards", "chosen"),
    [
        ("other", [QWEN], "other"),
        (None, [QWEN], "qwen"),
        (None, [QWEN, LORA], "qwen"),
        (None, [LORA], "lora"),
        (None, [QWEN, QWEN], "qwen"),
    ],
    ids=["the one asked for", "the only one", "the only base model", "the only LoRA", "one that is listed twice"],
)
def test_the_model_is_chosen(requested: str | None, cards: list[ModelCard], chosen: str) -> None:
    assert pick_model(requested, cards, URL) == chosen


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ([], "http://vllm.test/v1 lists no models; set `default_model` to the one to ask"),
        (
            [QWEN, GATEWAY, LORA],
            "http://vllm.test/v1 serves several models; set `default_model` to one of: qwen, gateway, lora",
        ),
    ],
    ids=["none", "several"],
)
def test_an_ambiguous_model_is_an_error(cards: list[ModelCard], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        pick_model(None, cards, URL)

    assert str(raised.value) == message
