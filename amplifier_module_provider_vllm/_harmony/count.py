"""Count the tokens of a gpt-oss request and its reply, for a server that gives no counts.

Renders the input as vLLM 0.32 does (entrypoints/openai/responses/harmony.py and openai/parser/harmony_utils.py).
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, assert_never

from .._ask import Ask
from .._strict_json import wire_text, wire_value
from .._turn import FunctionCall, HostedCall, Item, OtherItem, Reasoning, Status, Text, TokenUsage, Turn
from .messages import HarmonyMessage, harmony_messages

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding, Message

RAW: Final = re.compile(r"^<\|(?:start|channel)\|>|<\|(?:return|call)\|>$")

ANY_DATE: Final = "2025-01-01"
"""vLLM names the server's date; every date has the same number of tokens."""


def count_usage(encoding: "HarmonyEncoding", ask: Ask, turn: Turn) -> TokenUsage:
    """The input, output and reasoning tokens of a round."""
    counter = _Counter(encoding)
    return TokenUsage(
        input_tokens=count_input(encoding, ask),
        output_tokens=counter.output(turn),
        reasoning_tokens=sum(counter.text(item.text) for item in turn.items if isinstance(item, Reasoning)) or None,
        estimated=True,
    )


def count_input(encoding: "HarmonyEncoding", ask: Ask) -> int:
    """The tokens of the prompt that vLLM renders, the start of the reply's header included."""
    counter = _Counter(encoding)
    messages = _without_old_reasoning(harmony_messages(ask))
    return counter.preamble(ask) + sum(map(counter.message, messages)) + len(counter.header("<|start|>assistant"))


def _without_old_reasoning(messages: list[HarmonyMessage]) -> list[HarmonyMessage]:
    """vLLM drops the reasoning before the last final message (`auto_drop_analysis_messages`)."""
    final = max((place for place, message in enumerate(messages) if message.channel == "final"), default=-1)
    return [message for place, message in enumerate(messages) if place > final or message.channel != "analysis"]


class _Counter:
    """Counts text by text: the library holds the GIL for the duration of a call."""

    def __init__(self, encoding: "HarmonyEncoding") -> None:
        self._encoding = encoding
        self._headers: dict[str, list[int]] = {}

    def text(self, text: str) -> int:
        """The tokens of plain text; special tokens in it count as text."""
        return len(self._encoding.encode(text, disallowed_special=()))

    def header(self, header: str) -> list[int]:
        if header not in self._headers:
            self._headers[header] = self._encoding.encode(header, allowed_special="all")
        return self._headers[header]

    def message(self, message: HarmonyMessage) -> int:
        frame = self.header(f"<|start|>{message.header}<|message|><|end|>")
        return len(frame) + self.text(message.text)

    def preamble(self, ask: Ask) -> int:
        """The system message and, if there are instructions or tools, the developer message."""
        from openai_harmony import Conversation, RenderConversationConfig

        conversation = Conversation.from_messages(list(_preamble(ask)))
        config = RenderConversationConfig(auto_drop_analysis=False)
        return len(self._encoding.render_conversation(conversation, config))

    def output(self, turn: Turn) -> int:
        """The items in raw Harmony: the first header starts in the prompt, a truncated reply has no end token."""
        if not turn.items:
            return 0
        following = (*turn.items[1:], None)
        total = sum(self._item_tokens(item, after) for item, after in zip(turn.items, following, strict=True))
        in_prompt = 0 if _is_raw(turn.items[0]) else len(self.header("<|start|>assistant"))
        missing_end = 0 if turn.status is Status.COMPLETED or _is_raw(turn.items[-1]) else 1
        return total - in_prompt - missing_end

    def _item_tokens(self, item: Item, following: Item | None) -> int:
        if isinstance(item, Text) and _is_raw(item):
            return len(self._encoding.encode(_raw_text(item), allowed_special="all"))
        frame = self.header(f"<|start|>assistant<|channel|>{_channel(item, following)}<|message|><|end|>")
        return len(frame) + self.text(item.arguments if isinstance(item, FunctionCall) else item.text)


def _is_raw(item: Item) -> bool:
    """Whether a text is raw Harmony: vLLM returns what it cannot parse as text, such as a truncated header."""
    return isinstance(item, Text) and RAW.search(_raw_text(item)) is not None


def _raw_text(item: Text) -> str:
    return item.text if item.raw is None else item.raw


def _preamble(ask: Ask) -> "Iterator[Message]":
    from openai_harmony import DeveloperContent, Message, ReasoningEffort, Role, SystemContent, ToolDescription

    system = SystemContent.new().with_conversation_start_date(ANY_DATE)
    effort = ask.options.reasoning_effort
    if effort in ("low", "medium", "high"):
        system = system.with_reasoning_effort(ReasoningEffort[effort.upper()])
    yield Message.from_role_and_content(Role.SYSTEM, system)
    instructions, tools = wire_value(ask.prompt.instructions), ask.functions
    if not instructions and not tools:
        return
    developer = DeveloperContent.new()
    if instructions is not None:
        developer = developer.with_instructions(instructions)
    if tools:
        descriptions = [
            ToolDescription(
                name=wire_text(tool.name),
                description=wire_text(tool.description or ""),
                parameters=wire_value(tool.parameters),
            )
            for tool in tools
        ]
        developer = developer.with_function_tools(descriptions)
    yield Message.from_role_and_content(Role.DEVELOPER, developer)


def _channel(item: Item, following: Item | None) -> str:
    """The channel in raw Harmony; text before a call is commentary, not the final answer."""
    match item:
        case Reasoning():
            return "analysis"
        case Text() | OtherItem() | HostedCall():
            return "commentary" if isinstance(following, FunctionCall) else "final"
        case FunctionCall(name=name):
            return f"commentary to=functions.{name} <|constrain|>json"
        case _:
            assert_never(item)
