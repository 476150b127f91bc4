"""Encode the messages of a history as input items, in the order they were produced.

The encoding of a history is a prefix of the encoding of the longer history, so that vLLM finds it in its prefix cache.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import (
    Degradation,
    ImageBlock,
    Message,
    ReasoningBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
)

from .._constants import PROVIDER
from .._options import CallOptions
from .._strict_json import read_json
from .input_items import (
    InputItem,
    InputPart,
    answered,
    called,
    defused,
    image_part,
    output_text,
    said,
    text_part,
    thought,
    user,
    wire_text,
)

Block = (
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolCallBlock | ToolResultBlock | ImageBlock | ReasoningBlock
)

IMAGE_NOTE = "[An image was here, but this model cannot see images.]"


class History:
    """The input as it grows, message by message, each item final but the last."""

    def __init__(self, options: CallOptions) -> None:
        self.items: list[InputItem] = []
        self.degradations: list[Degradation] = []
        self._options = options

    def add(self, message: Message) -> None:
        match message.role:
            case "user":
                self._add_user(message)
            case "assistant":
                self._add_assistant(message)
            case "tool" | "function":
                self._add_result(message)
            case "system":
                self._attach("system-reminder", all_text(message))
            case "developer":
                self._attach("context_file", all_text(message))
            case _:
                assert_never(message.role)

    def _add_user(self, message: Message) -> None:
        parts: list[InputPart] = []
        for block in _blocks(message):
            if isinstance(block, ToolResultBlock):
                self.items.append(answered(block.tool_call_id, self._output(block.output)))
            else:
                parts.append(self._part(message, block))
        if parts:
            self.items.append(user(_joined(parts)))

    def _add_assistant(self, message: Message) -> None:
        stored, calls = dict(_loop_calls(message)), _calls_tools(message)
        for block in _blocks(message):
            match block:
                case TextBlock(text=text):
                    self._add_said(text, before_calls=calls)
                case ThinkingBlock(thinking=text):
                    if text.strip():
                        self.items.append(thought(text, len(self.items)))
                case ToolCallBlock():
                    stored.pop(block.id, None)
                    self.items.append(called(block.id, block.name, _arguments(block)))
                case ReasoningBlock(content=content, summary=summary):
                    self.items.extend(thought(text, len(self.items)) for text in _readable(content or summary))
                case RedactedThinkingBlock():
                    continue  # encrypted by another provider: nothing that vLLM could read
                case _:
                    raise _unsendable(message, block)
        for call_id, (name, arguments) in stored.items():
            self.items.append(called(call_id, name, _as_json(arguments)))

    def _add_said(self, text: str, *, before_calls: bool) -> None:
        if not text.strip():
            return
        # Harmony takes any message for the turn's final one and drops all reasoning before it: what the model says
        # beside a call would cost it the thoughts of the running turn (vLLM 0.32, auto_drop_analysis_messages).
        spell = thought if before_calls and self._options.harmony else said
        self.items.append(spell(text, len(self.items)))

    def _add_result(self, message: Message) -> None:
        if message.tool_call_id is None:
            for block in _blocks(message):
                if not isinstance(block, ToolResultBlock):
                    raise InvalidRequestError(f"a {message.role!r} message has no tool_call_id", provider=PROVIDER)
                self.items.append(answered(block.tool_call_id, self._output(block.output)))
            return
        parts: list[InputPart] = []
        for block in _blocks(message):
            match block:
                case ToolResultBlock(output=output):
                    parts.append(text_part(self._output(output)))
                case TextBlock(text=text):
                    parts.append(text_part(self._defused(text)))
                case _:
                    parts.append(self._part(message, block))
        self.items.append(answered(message.tool_call_id, _joined(parts)))

    def _part(self, message: Message, block: Block) -> InputPart:
        match block:
            case TextBlock(text=text):
                return text_part(text)
            case ImageBlock(source=source):
                return self._image(source)
            case _:
                raise _unsendable(message, block)

    def _image(self, source: dict[str, Any]) -> InputPart:
        if not self._options.vision:
            reason = f"{self._options.model} cannot see images"
            self.degradations.append(Degradation(requested="image", actual="text", reason=reason))
            return text_part(IMAGE_NOTE)
        match source:
            case {"type": "base64", "data": str(data)}:
                return image_part(f"data:{source.get('media_type', 'image/png')};base64,{data}")
            case {"url": str(url)}:
                return image_part(url)
            case _:
                raise InvalidRequestError(
                    f"an image's source is neither base64 nor url: {sorted(source)}", provider=PROVIDER
                )

    def _output(self, output: object) -> str:
        return wire_text(self._defused(output_text(output)))

    def _defused(self, text: str) -> str:
        return text if self._options.harmony else defused(text)

    def _attach(self, tag: str, text: str) -> None:
        """Put a late system or developer message where it costs neither the cache nor the running turn's reasoning.

        Hoisted to the front it changes the prompt before the whole history; as a user turn of its own it makes
        templates such as Qwen3's forget the reasoning of the running tool turn.
        """
        if not text.strip():
            return
        reminder = text if text.lstrip().startswith(f"<{tag}>") else f"<{tag}>\n{text}\n</{tag}>"
        last = self.items[-1] if self.items else None
        if last is not None and last["type"] == "function_call_output":
            last["output"] = _extended(last["output"], reminder)
        elif last is not None and last["type"] == "message" and last["role"] == "user":
            last["content"] = _extended(last["content"], reminder)
        else:
            self.items.append(user(wire_text(reminder)))


def all_text(message: Message) -> str:
    texts = []
    for block in _blocks(message):
        if not isinstance(block, TextBlock):
            raise _unsendable(message, block)
        texts.append(block.text)
    return "\n\n".join(texts)


def _extended(content: str | list[InputPart], text: str) -> str | list[InputPart]:
    if isinstance(content, str):
        return f"{content}\n\n{wire_text(text)}"
    return [*content, text_part(text)]


def _joined(parts: list[InputPart]) -> str | list[InputPart]:
    """Text alone as a string, which every path takes; vLLM itself joins text parts with a newline."""
    texts = [part["text"] for part in parts if part["type"] == "input_text"]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _blocks(message: Message) -> Sequence[Block]:
    return [TextBlock(text=message.content)] if isinstance(message.content, str) else message.content


def _loop_calls(message: Message) -> Iterator[tuple[str, tuple[str, object]]]:
    """The `tool_calls` that Amplifier's loops store beside the content: the name stands under "tool" there."""
    for call in (message.model_extra or {}).get("tool_calls") or ():
        yield call["id"], (call.get("tool") or call.get("name") or "", call.get("arguments") or {})


def _readable(parts: Sequence[object]) -> list[str]:
    """The thoughts of a block that came from OpenAI, as one text: vLLM reads only the first part of an item."""
    texts = [text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str)]
    return ["\n".join(texts)] if any(text.strip() for text in texts) else []


def _calls_tools(message: Message) -> bool:
    return any(isinstance(block, ToolCallBlock) for block in _blocks(message)) or any(_loop_calls(message))


def _arguments(block: ToolCallBlock) -> str:
    """As the model wrote them, if that is still what the block says: sessions may change a stored call."""
    match (block.model_extra or {}).get("vllm"):
        case {"arguments": str(written)} if _says(written, block.input):
            return written
        case _:
            return _as_json(block.input)


def _says(written: str, arguments: object) -> bool:
    try:
        return bool(read_json(written) == arguments)
    except ValueError:
        return False


def _as_json(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _unsendable(message: Message, block: Block) -> InvalidRequestError:
    return InvalidRequestError(f"vLLM cannot be sent a {block.type!r} block from the {message.role}", provider=PROVIDER)
