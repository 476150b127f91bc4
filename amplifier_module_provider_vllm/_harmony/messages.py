"""The messages of Harmony that a conversation becomes, as vLLM 0.32 renders it for gpt-oss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from .._ask import Ask
from .._family import Family
from .._prompt import PromptItem, Result, User, join_text
from .._turn import FunctionCall, Reasoning, Text


@dataclass(frozen=True, slots=True)
class HarmonyMessage:
    """A message of the prompt: its author, its channel with the rest of the header, and its text."""

    author: str
    channel: str | None
    text: str

    @property
    def header(self) -> str:
        return self.author if self.channel is None else f"{self.author}<|channel|>{self.channel}"


def harmony_messages(ask: Ask) -> list[HarmonyMessage]:
    """One message for each item of the conversation."""
    names = {item.call_id: item.name for item in ask.items if isinstance(item, FunctionCall)}
    return [_message(item, names, ask.options.family) for item in ask.items]


def _message(item: PromptItem, names: Mapping[str, str], family: Family) -> HarmonyMessage:
    """An item as a message; `names` maps call ids to tool names."""
    match item:
        case Reasoning(text):
            return HarmonyMessage("assistant", "analysis", text)
        case Text(text, beside_calls=beside_calls):
            return HarmonyMessage(
                "assistant", "analysis" if beside_calls and family.thinks_beside_calls else "final", text
            )
        case FunctionCall(name=name, arguments=arguments):
            # vLLM's own header, not the library's: oss-harmony 0.0.10 changed that.
            return HarmonyMessage(f"assistant to=functions.{name}", "commentary json", arguments)
        case Result(call_id, parts):
            author = f"functions.{names.get(call_id, '')} to=assistant"
            return HarmonyMessage(author, "commentary", join_text(parts, family.tool_text))
        case User(parts):
            return HarmonyMessage("user", None, join_text(parts, family.tool_text))
        case _:
            assert_never(item)
