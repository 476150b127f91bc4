"""What differs between families of models, in one table; everything else of the provider is the same for all."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

CONTROL_TOKEN: Final = re.compile(r"<\|(?=\w+\|>)")
"""Where a special token of a chat template begins."""


@dataclass(frozen=True, slots=True)
class Family:
    """How vLLM treats the models of a family. The defaults are those of a model with a chat template."""

    name: str
    pattern: str | None = None
    """A regular expression, found in a model's name or in what the server loaded it from."""
    efforts: tuple[str, ...] | None = None
    """The reasoning efforts that the family takes; None: whatever its template makes of one."""
    nearest_effort: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What stands in for an effort that is not among `efforts`."""
    sees_images: bool = True
    """False: vLLM drops images without a word."""
    continues_text: bool = True
    """Whether a text that was cut off can go on where it stopped."""
    thinks_beside_calls: bool = False
    """Whether text beside a call is replayed as reasoning, because as text it would cost the turn its reasoning."""
    escapes_tool_text: bool = False
    """Whether control tokens in a tool's text stay text. In a chat template they would end the tool's turn."""
    forgets_stored_calls: bool = True
    """Whether vLLM keeps a stored conversation's messages but not its calls (vLLM #43244)."""
    markup: tuple[str, ...] = ()
    """Marks of the family's own format that no server flag removes from a text: the model broke its format."""
    counts: Literal["server", "harmony"] = "server"
    """Who counts tokens for a server that does not: nobody, or we with the Harmony vocabulary. Harmony prompts are
    also not those that `/tokenize` renders."""

    def effort(self, requested: str) -> str:
        """The effort to send for the one asked for."""
        return requested if self.efforts is None else self.nearest_effort.get(requested, requested)

    def tool_text(self, text: str) -> str:
        """A tool's text, fit to stand in a prompt."""
        return text if self.escapes_tool_text else escape_control_tokens(text)


TEMPLATED: Final = Family("other")
"""Qwen3, Llama, Mistral, DeepSeek and all else that vLLM renders with the model's chat template."""

GPT_OSS: Final = Family(
    "gpt-oss",
    pattern=r"gpt[-_]oss",
    # vLLM 0.32 answers any other effort with 400.
    efforts=("low", "medium", "high"),
    nearest_effort=MappingProxyType({"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}),
    sees_images=False,
    continues_text=False,
    # Harmony takes any message for the turn's final one and drops all reasoning before it (vLLM 0.32,
    # auto_drop_analysis_messages).
    thinks_beside_calls=True,
    escapes_tool_text=True,
    forgets_stored_calls=False,
    # vLLM parses Harmony whatever its flags are.
    markup=("<|channel|>", "<|start|>"),
    counts="harmony",
)
"""Rendered with Harmony instead of a chat template."""

FAMILIES: Final = (GPT_OSS, TEMPLATED)


def family_of(*names: str) -> Family:
    """The family of a model, by its names: the served one, and what the server says that it was loaded from."""
    for family in FAMILIES:
        if family.pattern is not None and any(re.search(family.pattern, name, re.IGNORECASE) for name in names):
            return family
    return TEMPLATED


def escape_control_tokens(text: str) -> str:
    """The text with `<|im_end|>` and its kind made plain: chat templates would let it end the tool's turn."""
    return CONTROL_TOKEN.sub("<\N{WORD JOINER}|", text) if "<|" in text else text
