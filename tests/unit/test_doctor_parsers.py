"""The parsers that the doctor names for a model."""

import pytest

from amplifier_module_provider_vllm._doctor.parsers import Parsers, parsers_of, reasoning_flag, tool_flags
from amplifier_module_provider_vllm._limits import ModelCard


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", Parsers("hermes", "qwen3")),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", Parsers("qwen3_coder", None)),
        ("Qwen/Qwen2.5-7B-Instruct", Parsers("hermes", None)),
        ("Qwen/QwQ-32B", Parsers("hermes", "deepseek_r1")),
        ("meta-llama/Llama-3.3-70B-Instruct", Parsers("llama3_json", None)),
        ("meta-llama/Meta-Llama-3-8B", Parsers("llama3_json", None)),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", Parsers("llama4_pythonic", None)),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", Parsers("mistral", None)),
        ("mistralai/Magistral-Small-2509", Parsers("mistral", "mistral")),
        ("deepseek-ai/DeepSeek-R1-0528", Parsers("deepseek_v3", "deepseek_r1")),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", Parsers(None, "deepseek_r1")),
        ("deepseek-ai/DeepSeek-V3.1", Parsers("deepseek_v31", "deepseek_v3")),
        ("zai-org/GLM-4.5-Air", Parsers("glm45", "glm45")),
        ("moonshotai/Kimi-K2-Thinking", Parsers("kimi_k2", "kimi_k2")),
        ("openai/gpt-oss-20b", Parsers("openai", "openai_gptoss")),
        ("ibm-granite/granite-3.3-8b-instruct", Parsers("granite", "granite")),
        ("someone/new-model", Parsers()),
    ],
)
def test_a_model_is_recognised_by_its_name(model: str, expected: Parsers) -> None:
    assert parsers_of(model, []) == expected


def test_a_model_served_under_another_name_is_recognised_by_its_root() -> None:
    cards = [ModelCard("fast", root="/models/Qwen3-8B"), ModelCard("mine", root="/adapters/mine", parent="Qwen3-8B")]

    assert parsers_of("fast", cards) == parsers_of("mine", cards) == Parsers("hermes", "qwen3")


def test_flags_are_complete_or_link_to_the_list_of_parsers() -> None:
    known, unknown = Parsers("hermes", "qwen3"), Parsers()

    assert tool_flags(known) == "start vLLM with `--enable-auto-tool-choice --tool-call-parser hermes`"
    assert reasoning_flag(known) == "start vLLM with `--reasoning-parser qwen3`"
    assert tool_flags(unknown).endswith("NAME`; `vllm serve --help=tool-call-parser` lists the names")
    assert reasoning_flag(unknown).endswith("NAME`; `vllm serve --help=reasoning-parser` lists the names")
