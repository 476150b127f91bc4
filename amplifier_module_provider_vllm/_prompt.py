"""Prompt: a conversation, its tools and its response format, independent of the endpoint."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ToolSpec

from ._constants import PROVIDER
from ._strict_json import is_json_object
from ._turn import FunctionCall, HostedCall, Reasoning, Text


class Image(msgspec.Struct, frozen=True):
    """An image as Amplifier has it: base64 data or a URL."""

    source: Mapping[str, Any]

    @property
    def url(self) -> str:
        """A URL, `data:` for base64. Raises `InvalidRequestError` for a source that is neither."""
        match self.source:
            case {"data": str(data)} | {"url": str(data)} if data.startswith("data:"):
                return data
            case {"type": "base64", "data": str(data)}:
                return f"data:{self.source.get('media_type', 'image/png')};base64,{data}"
            case {"url": str(url)}:
                return url
            case _:
                message = f"an image's source is neither base64 nor url: {sorted(self.source)}"
                raise InvalidRequestError(message, provider=PROVIDER)

    @property
    def can_be_sent(self) -> bool:
        try:
            return bool(self.url)
        except InvalidRequestError:
            return False


class ToolText(msgspec.Struct, frozen=True):
    """Text from a tool: control tokens in it are to be escaped."""

    text: str


class Reminder(msgspec.Struct, frozen=True):
    """A late system or developer message, attached to the item before it."""

    text: str


Part = str | ToolText | Image | Reminder


class User(msgspec.Struct, frozen=True):
    parts: tuple[Part, ...]


class Result(msgspec.Struct, frozen=True):
    """A tool's result for the call with this id."""

    call_id: str
    parts: tuple[Part, ...]


FUNCTION_FIELDS: Final = {"type", "strict"}
"""The fields of a function beside its name, description and parameters."""

PromptItem = User | Result | Reasoning | Text | FunctionCall


@dataclass(frozen=True, slots=True)
class Format:
    """The format of the reply: JSON of a schema, or any JSON object if `schema` is None."""

    name: str = "response"
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """The conversation in the order in which it was produced, with its instructions, tools and response format."""

    items: tuple[PromptItem, ...]
    instructions: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    format: Format | None = None
    losses: tuple[str, ...] = ()
    """What of the request cannot be sent, in a sentence each."""


def hosted_items(call: HostedCall) -> tuple[FunctionCall, Result]:
    """A hosted call as a prompt has it: vLLM refuses the items of hosted calls in an input."""
    arguments = call.arguments if is_json_object(call.arguments) else "{}"
    result = call.output if call.error is None else f"Error: {call.error}"
    return FunctionCall(call.call_id, call.name, arguments), Result(call.call_id, (ToolText(result),))


def is_function(tool: ToolSpec) -> bool:
    """Whether the session runs the tool. The spec of a hosted tool has another `type` among its extra fields."""
    return bool((tool.model_extra or {}).get("type", "function") == "function")


def join_text(parts: Sequence[Part], tool_text: Callable[[str], str]) -> str:
    """The text of parts without images: lines, then each reminder after a blank line; `tool_text` escapes a tool's."""
    lines: list[str] = []
    reminders: list[str] = []
    for part in parts:
        match part:
            case str():
                lines.append(part)
            case ToolText(text):
                lines.append(tool_text(text))
            case Reminder(text):
                reminders.append(text)
            case Image():
                pass
    if lines or not reminders:
        reminders.insert(0, "\n".join(lines))
    return "\n\n".join(reminders)


def digests(items: Iterable[PromptItem]) -> Iterator[bytes]:
    """The digest of the items up to each one."""
    digest = blake2b()
    for item in items:
        digest.update(repr(item).encode())
        yield digest.copy().digest()
