"""Which of vLLM's parsers a model needs, known from its name or from what it was loaded from."""

import re
from dataclasses import dataclass

from .._limits import ModelCard


@dataclass(frozen=True, slots=True)
class Parsers:
    """Names for `--tool-call-parser` and `--reasoning-parser`; None: the family has none of its own."""

    tool_call: str | None = None
    reasoning: str | None = None
    unused: bool = False
    """Whether vLLM leaves the replies unread, as at `/v1/completions`."""


FAMILIES: tuple[tuple[str, Parsers], ...] = (
    (r"gpt-?oss", Parsers("openai", "openai_gptoss")),
    (r"deepseek-?r1-distill", Parsers(None, "deepseek_r1")),
    (r"deepseek-?r1", Parsers("deepseek_v3", "deepseek_r1")),
    (r"deepseek-?v?3\.2", Parsers("deepseek_v32", "deepseek_v3")),
    (r"deepseek-?v?3\.1", Parsers("deepseek_v31", "deepseek_v3")),
    (r"deepseek-?v?4", Parsers("deepseek_v4", "deepseek_v4")),
    (r"deepseek-?v?3", Parsers("deepseek_v3", None)),
    (r"qwen3-?coder", Parsers("qwen3_coder", None)),
    (r"qwen3\.\d", Parsers("qwen3_coder", "qwen3")),
    (r"qwq", Parsers("hermes", "deepseek_r1")),
    (r"qwen3", Parsers("hermes", "qwen3")),
    (r"qwen-?2\.5|hermes", Parsers("hermes", None)),
    (r"llama-?4", Parsers("llama4_pythonic", None)),
    (r"nemotron-?3|nemotron-nano-v3", Parsers("qwen3_coder", "nemotron_v3")),
    (r"llama-?3", Parsers("llama3_json", None)),
    (r"magistral|ministral-3", Parsers("mistral", "mistral")),
    (r"mistral|ministral|mixtral|devstral", Parsers("mistral", None)),
    (r"glm-?4\.7|glm-?5", Parsers("glm47", "glm45")),
    (r"glm-?4\.[56]", Parsers("glm45", "glm45")),
    (r"kimi-?k2", Parsers("kimi_k2", "kimi_k2")),
    (r"granite-?4", Parsers("granite4", None)),
    (r"granite-?3", Parsers("granite", "granite")),
    (r"minimax-?m2", Parsers("minimax_m2", "minimax_m2")),
    (r"functiongemma", Parsers("functiongemma", None)),
    (r"gemma-?4", Parsers("gemma4", "gemma4")),
    (r"olmo-?3", Parsers("olmo3", "olmo3")),
    (r"seed-?oss", Parsers("seed_oss", "seed_oss")),
    (r"ernie-?4\.5", Parsers("ernie45", "ernie45")),
    (r"hunyuan-?a13b", Parsers("hunyuan_a13b", "hunyuan_a13b")),
    (r"step-?3\.5", Parsers("step3p5", "step3p5")),
    (r"step-?3", Parsers("step3", "step3")),
    (r"phi-?4-?mini", Parsers("phi4_mini_json", None)),
    (r"internlm2", Parsers("internlm", None)),
    (r"xlam", Parsers("xlam", None)),
    (r"lfm2", Parsers("lfm2", None)),
    (r"jamba", Parsers("jamba", None)),
)
"""The first that is found in a name counts. The parsers are those of vLLM 0.32."""


def parsers_of(model: str, cards: list[ModelCard]) -> Parsers:
    """By the served name first: it may be more telling than a folder."""
    roots = [root for card in cards if card.id == model for root in (card.root, card.parent) if root]
    for name in (model, *roots):
        plain = re.sub(r"[\s_]+", "-", name.lower())
        for pattern, parsers in FAMILIES:
            if re.search(pattern, plain):
                return parsers
    return Parsers()


def tool_flags(parsers: Parsers) -> str:
    return _start_with(
        parsers, f"--enable-auto-tool-choice --tool-call-parser {_named('tool-call', parsers.tool_call)}"
    )


def reasoning_flag(parsers: Parsers) -> str:
    return _start_with(parsers, f"--reasoning-parser {_named('reasoning', parsers.reasoning)}")


def _start_with(parsers: Parsers, flags: str) -> str:
    return f"{'set `endpoint: chat`, and ' if parsers.unused else ''}start vLLM with `{flags}"


def _named(kind: str, parser: str | None) -> str:
    return f"{parser}`" if parser is not None else f"NAME`; `vllm serve --help={kind}-parser` lists the names"
