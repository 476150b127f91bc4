"""A model's family is recognised by its names and contains all its differences."""

import pytest

from amplifier_module_provider_vllm._family import FAMILIES, GPT_OSS, HERMES, QWEN, TEMPLATED, Family, family_of
from amplifier_module_provider_vllm._limits import ModelCard, model_names


@pytest.mark.parametrize(
    ("model", "cards", "family"),
    [
        ("openai/gpt-oss-20b", [], GPT_OSS),
        ("OpenAI/GPT-OSS-120b", [], GPT_OSS),
        ("local/gpt_oss", [], GPT_OSS),
        ("house", [ModelCard("house", root="/models/gpt-oss-20b")], GPT_OSS),
        ("house", [ModelCard("house", parent="openai/gpt-oss-20b")], GPT_OSS),
        ("house", [ModelCard("house", root="Qwen/Qwen3-8B"), ModelCard("other", root="gpt-oss-20b")], QWEN),
        ("Qwen/Qwen3-8B", [], QWEN),
        ("NousResearch/Hermes-3-Llama-3.1-8B", [], HERMES),
        ("deepseek-ai/DeepSeek-V3", [], TEMPLATED),
    ],
    ids=[
        "its name",
        "capitals",
        "an underscore",
        "its root",
        "its parent",
        "another's root",
        "Qwen",
        "a fine-tuned model",
        "an unlisted family",
    ],
)
def test_a_family_is_recognised_by_model_name_or_root(model: str, cards: list[ModelCard], family: Family) -> None:
    assert family_of(*model_names(model, cards)) is family


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_supported_effort_is_sent_unchanged_and_any_other_becomes_one(family: Family) -> None:
    supported = family.efforts or EFFORTS

    assert [family.effort(effort) for effort in supported] == list(supported)
    assert {family.effort(effort) for effort in EFFORTS} <= set(supported)
