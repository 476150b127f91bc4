"""Defects of another vLLM provider that no other test covers."""

import subprocess
import sys
from typing import Any

import pytest

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.requests import encode_messages

URL = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize("name", ["thinking_budget_tokens", "thinking_budget", "thinking_budget_buffer"])
def test_a_thinking_budget_does_not_raise_the_output_cap(name: str) -> None:
    plain = encode_messages(request={"max_output_tokens": 256}, overrides={"extended_thinking": True})

    budgeted = encode_messages(
        request={"max_output_tokens": 256},
        overrides={"extended_thinking": True, name: 10_000},
        config={name: 10_000},
    )

    assert budgeted == plain


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"max_tokens": 16_384, "temperature": None, "timeout": None, "context_window": 128_000}),
        (
            {"max_tokens": 900, "temperature": 0, "timeout": 30, "context_window": 8192},
            {"max_tokens": 900, "temperature": 0.0, "timeout": 30.0, "context_window": 8192},
        ),
    ],
    ids=["nothing configured", "configured"],
)
def test_the_reported_defaults_are_the_effective_ones(config: dict[str, Any], expected: dict[str, Any]) -> None:
    defaults = VLLMProvider(URL, config=config).get_info().defaults

    assert {key: defaults[key] for key in expected} == expected


def test_importing_the_package_does_not_import_the_token_counter() -> None:
    code = (
        "import sys, amplifier_module_provider_vllm; print(*sorted({'openai_harmony', 'tiktoken'} & set(sys.modules)))"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603

    assert ran.stdout.split() == []
