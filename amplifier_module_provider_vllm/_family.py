"""The differences between model families, in one table; the rest of the provider is the same for all."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal

from ._control_tokens import escape_control_tokens

CallFormat = Literal["hermes", "qwen-coder", "llama", "mistral", "kimi", "harmony"]
"""How a model writes a call in its text; `_markup.formats` reads them."""


@dataclass(frozen=True, slots=True)
class Family:
    """How vLLM treats the models of a family. The defaults are those of a model with a chat template."""

    name: str
    pattern: str | None = None
    """A regular expression, searched in a model's name and in the name of its checkpoint."""
    efforts: tuple[str, ...] | None = None
    """The reasoning efforts that the family accepts; None: its chat template decides."""
    nearest_effort: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Replacements for efforts that are not in `efforts`."""
    sees_images: bool = True
    """False: vLLM silently drops images."""
    continues_text: bool = True
    """Whether a truncated text can be continued where it stopped."""
    thinks_beside_calls: bool = False
    """Whether text beside a call is replayed as reasoning: as text it would make vLLM drop the turn's reasoning."""
    adds_newline_before_calls: bool = False
    """Whether the chat template ends the text before a call with a newline, beside the one that the model wrote."""
    escapes_tool_text: bool = False
    """Whether vLLM escapes control tokens in a tool's text. In a chat template they would end the tool's turn."""
    forgets_stored_calls: bool = True
    """Whether vLLM keeps a stored conversation's messages but not its calls (vLLM #43244)."""
    call_formats: tuple[CallFormat, ...] = ("hermes", "qwen-coder", "llama", "mistral", "kimi")
    """The formats in which the family writes calls. For a model of an unknown family: those of every chat template."""
    needs_tool_parser: bool = True
    """Whether vLLM recognises the family's calls only with `--tool-call-parser`."""
    rendering: Literal["template", "harmony"] = "template"
    """How vLLM renders a prompt. Harmony is not what `/tokenize` renders, has one message per item, and can be counted
    here, with its vocabulary, if the server gives no token counts."""

    def effort(self, requested: str) -> str:
        """The effort to send for the requested one."""
        return requested if self.efforts is None else self.nearest_effort.get(requested, requested)

    def tool_text(self, text: str) -> str:
        """A tool's text, safe in a prompt."""
        return text if self.escapes_tool_text else escape_control_tokens(text)

    def text_beside_calls(self, text: str) -> str:
        """A reply's text beside its calls, such that the next prompt has it as the model wrote it."""
        return text.removesuffix("\n") if self.adds_newline_before_calls else text


TEMPLATED: Final = Family("other")
"""DeepSeek, Gemma and every other model that vLLM renders with a chat template."""

# Hermes comes first: its models are fine-tuned from Llama, Mistral and Qwen, and named after both.
HERMES: Final = replace(
    TEMPLATED, name="hermes", pattern=r"hermes", call_formats=("hermes",), adds_newline_before_calls=True
)
QWEN: Final = replace(HERMES, name="qwen", pattern=r"qwen|qwq", call_formats=("hermes", "qwen-coder"))
LLAMA: Final = replace(TEMPLATED, name="llama", pattern=r"llama", call_formats=("llama",))
MISTRAL: Final = replace(
    TEMPLATED,
    name="mistral",
    pattern=r"mi[sx]tral|(mini|magi|dev|code)stral|pixtral|voxtral",
    call_formats=("mistral",),
)
KIMI: Final = replace(TEMPLATED, name="kimi", pattern=r"kimi", call_formats=("kimi",))

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
    call_formats=("harmony",),
    needs_tool_parser=False,
    rendering="harmony",
)
"""Rendered with Harmony instead of a chat template."""

FAMILIES: Final = (GPT_OSS, HERMES, QWEN, LLAMA, MISTRAL, KIMI, TEMPLATED)


def family_of(*names: str) -> Family:
    """The family of a model, by its names: the served one and that of its checkpoint."""
    for family in FAMILIES:
        if family.pattern is not None and any(re.search(family.pattern, name, re.IGNORECASE) for name in names):
            return family
    return TEMPLATED
