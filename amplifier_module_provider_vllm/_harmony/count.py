"""Count the tokens of a request and its reply for gpt-oss, where the server did not.

The input as vLLM 0.32 renders it (entrypoints/openai/responses/harmony.py and openai/parser/harmony_utils.py).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, assert_never

from .._responses.input_items import FunctionTool, InputItem, InputPart
from .._turn import FunctionCall, Item, OtherItem, Reasoning, Status, Text, TokenUsage, Turn

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding, Message

RAW: Final = re.compile(r"^<\|(?:start|channel)\|>|<\|(?:return|call)\|>$")

ANY_DATE: Final = "2025-01-01"
"""vLLM names the server's date; every date has the same number of tokens."""


def is_counted(usage: TokenUsage | None) -> bool:
    """Whether the server counted: no prompt is empty, but vLLM 0.10 gave zeros for gpt-oss."""
    return usage is not None and (usage.input_tokens > 0 or usage.output_tokens > 0)


def count_usage(encoding: "HarmonyEncoding", params: Mapping[str, Any], turn: Turn) -> TokenUsage:
    """What a round cost: the parameters of its `responses.create`, and what came of them."""
    counter = _Counter(encoding)
    return TokenUsage(
        input_tokens=count_input(encoding, params),
        output_tokens=counter.output(turn),
        reasoning_tokens=sum(counter.text(item.text) for item in turn.items if isinstance(item, Reasoning)) or None,
        estimated=True,
    )


def count_input(encoding: "HarmonyEncoding", params: Mapping[str, Any]) -> int:
    """The tokens of the prompt that vLLM makes of a request, the beginning of the reply's header included."""
    counter = _Counter(encoding)
    messages = _without_old_thoughts(_messages(params["input"]))
    return counter.preamble(params) + sum(map(counter.message, messages)) + len(counter.header("<|start|>assistant"))


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of the prompt: what stands before its channel, the channel with what follows it, and its text."""

    author: str
    channel: str | None
    texts: Sequence[str]

    @property
    def header(self) -> str:
        return self.author if self.channel is None else f"{self.author}<|channel|>{self.channel}"


def _messages(items: Sequence[InputItem]) -> list[_Message]:
    names = {item["call_id"]: item["name"] for item in items if item["type"] == "function_call"}
    return [_message(item, names) for item in items]


def _message(item: InputItem, names: Mapping[str, str]) -> _Message:
    """An item on its channel; `names` are the tools' by the ids of their calls."""
    if item["type"] == "reasoning":
        return _Message("assistant", "analysis", ["\n".join(part["text"] for part in item["content"])])
    if item["type"] == "function_call":
        # The header that vLLM keeps to, whatever the library writes: oss-harmony 0.0.10 changed it.
        return _Message(f"assistant to=functions.{item['name']}", "commentary json", [item["arguments"]])
    if item["type"] == "function_call_output":
        author = f"functions.{names.get(item['call_id'], '')} to=assistant"
        return _Message(author, "commentary", _texts(item["output"]))
    if item["role"] == "assistant":
        return _Message("assistant", "final", [part["text"] for part in item["content"]])
    return _Message("user", None, _texts(item["content"]))


def _texts(content: str | list[InputPart]) -> list[str]:
    """Harmony has no images: vLLM makes an empty text of one."""
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "input_text"]


def _without_old_thoughts(messages: list[_Message]) -> list[_Message]:
    """vLLM drops the reasoning before the last final message (`auto_drop_analysis_messages`)."""
    final = max((place for place, message in enumerate(messages) if message.channel == "final"), default=-1)
    return [message for place, message in enumerate(messages) if place > final or message.channel != "analysis"]


class _Counter:
    """Counts piece by piece: the library holds the interpreter as long as one call of it lasts."""

    def __init__(self, encoding: "HarmonyEncoding") -> None:
        self._encoding = encoding
        self._headers: dict[str, list[int]] = {}

    def text(self, text: str) -> int:
        """What looks like a special token in a text is text."""
        return len(self._encoding.encode(text, disallowed_special=()))

    def header(self, header: str) -> list[int]:
        if header not in self._headers:
            self._headers[header] = self._encoding.encode(header, allowed_special="all")
        return self._headers[header]

    def message(self, message: _Message) -> int:
        framed = self.header(f"<|start|>{message.header}<|message|><|end|>")
        return len(framed) + sum(map(self.text, message.texts))

    def preamble(self, params: Mapping[str, Any]) -> int:
        """The system message and, where there are instructions or tools, the developer message."""
        from openai_harmony import Conversation, RenderConversationConfig

        conversation = Conversation.from_messages(list(_preamble(params)))
        config = RenderConversationConfig(auto_drop_analysis=False)
        return len(self._encoding.render_conversation(conversation, config))

    def output(self, turn: Turn) -> int:
        """Each item as the model wrote it: the first header begins in the prompt, a reply that was cut has no end."""
        if not turn.items:
            return 0
        following = (*turn.items[1:], None)
        written = sum(self._written(item, after) for item, after in zip(turn.items, following, strict=True))
        begun = 0 if _is_raw(turn.items[0]) else len(self.header("<|start|>assistant"))
        unended = 0 if turn.status is Status.COMPLETED or _is_raw(turn.items[-1]) else 1
        return written - begun - unended

    def _written(self, item: Item, following: Item | None) -> int:
        if isinstance(item, Text) and _is_raw(item):
            return len(self._encoding.encode(item.text, allowed_special="all"))
        frame = self.header(f"<|start|>assistant<|channel|>{_channel(item, following)}<|message|><|end|>")
        return len(frame) + self.text(item.arguments if isinstance(item, FunctionCall) else item.text)


def _is_raw(item: Item) -> bool:
    """Whether a text holds its own Harmony: vLLM hands on what it cannot parse, such as a header that was cut off."""
    return isinstance(item, Text) and RAW.search(item.text) is not None


def _preamble(params: Mapping[str, Any]) -> "Iterator[Message]":
    from openai_harmony import DeveloperContent, Message, ReasoningEffort, Role, SystemContent, ToolDescription

    system = SystemContent.new().with_conversation_start_date(ANY_DATE)
    effort = params.get("reasoning", {}).get("effort")
    if effort in ("low", "medium", "high"):
        system = system.with_reasoning_effort(ReasoningEffort[effort.upper()])
    yield Message.from_role_and_content(Role.SYSTEM, system)
    instructions, tools = params.get("instructions"), _functions(params)
    if not instructions and not tools:
        return
    developer = DeveloperContent.new()
    if instructions is not None:
        developer = developer.with_instructions(instructions)
    if tools:
        described = [
            ToolDescription.new(tool["name"], tool.get("description") or "", tool["parameters"]) for tool in tools
        ]
        developer = developer.with_function_tools(described)
    yield Message.from_role_and_content(Role.DEVELOPER, developer)


def _functions(params: Mapping[str, Any]) -> list[FunctionTool]:
    return [tool for tool in params.get("tools", ()) if tool["type"] == "function"]


def _channel(item: Item, following: Item | None) -> str:
    """The channel as the model writes it; what it says before a call is no final answer."""
    match item:
        case Reasoning():
            return "analysis"
        case Text() | OtherItem():
            return "commentary" if isinstance(following, FunctionCall) else "final"
        case FunctionCall(name=name):
            return f"commentary to=functions.{name} <|constrain|>json"
        case _:
            assert_never(item)
