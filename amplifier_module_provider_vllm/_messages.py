"""Convert Amplifier's messages, tools and response format to a Prompt, in the order in which they were produced.

The prompt of a history is a prefix of the prompt of the longer history, so that vLLM finds it in its prefix cache.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

import msgspec
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import (
    ChatRequest,
    ContentBlockUnion,
    ImageBlock,
    Message,
    ReasoningBlock,
    RedactedThinkingBlock,
    ResponseFormatJson,
    ResponseFormatJsonSchema,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
)

from ._constants import PROVIDER
from ._prompt import Format, Image, Part, Prompt, PromptItem, Reminder, Result, ToolText, User
from ._strict_json import Json
from ._turn import FunctionCall, Reasoning, Text

_encode_json = json.JSONEncoder(ensure_ascii=False).encode


def to_prompt(messages: Sequence[Message], request: ChatRequest) -> Prompt:
    """The prompt of `messages`, the repaired history. Raises `InvalidRequestError` for an unsupported block."""
    leading = next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))
    items: list[PromptItem] = []
    for message in messages[leading:]:
        _add(items, message)
    if not items:
        raise InvalidRequestError("the request has no messages except system messages", provider=PROVIDER)
    return Prompt(
        items=tuple(items),
        instructions="\n\n".join(map(_system_text, messages[:leading])) if leading else None,
        tools=tuple(request.tools or ()),
        format=_format(request),
    )


def call_arguments(arguments: object) -> str:
    """A call's arguments as JSON; a string is already JSON."""
    return arguments if isinstance(arguments, str) else _encode_json(arguments)


def output_text(output: object) -> str:
    """A tool's output as text: strings unchanged, the rest as JSON, or as `str()` if JSON fails."""
    if isinstance(output, str):
        return output
    try:
        return "" if output is None else json.dumps(output, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(output)


def loop_calls(message: Message) -> Iterable[tuple[str, str, object]]:
    """Id, name and arguments of the `tool_calls` that Amplifier's loops store beside the content.

    Their key for the name is "tool".
    """
    extra = message.model_extra
    if not extra:  # the common case
        return ()
    stored = extra.get("tool_calls") or ()
    return [(call["id"], call.get("tool") or call.get("name") or "", call.get("arguments") or {}) for call in stored]


def _add(items: list[PromptItem], message: Message) -> None:
    match message.role:
        case "user":
            items.extend(_user(message))
        case "assistant":
            items.extend(_assistant(message))
        case "tool" | "function":
            items.extend(_results(message))
        case "system":
            _attach(items, "system-reminder", _system_text(message))
        case "developer":
            _attach(items, "context_file", _system_text(message))
        case _:
            assert_never(message.role)


def _user(message: Message) -> Iterator[PromptItem]:
    if isinstance(message.content, str):
        yield User((message.content,))
        return
    parts: list[Part] = []
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            yield Result(block.tool_call_id, (ToolText(output_text(block.output)),))
        else:
            parts.append(_part(message, block))
    if parts:
        yield User(tuple(parts))


def _assistant(message: Message) -> Iterator[PromptItem]:
    stored = {call_id: (name, arguments) for call_id, name, arguments in loop_calls(message)}
    blocks = _blocks(message)
    calls = bool(stored) or "tool_call" in [block.type for block in blocks]
    for block in blocks:
        match block:
            case ToolCallBlock(id=call_id, name=name):
                stored.pop(call_id, None)
                yield FunctionCall(call_id, name, _original_arguments(block))
            case TextBlock(text=text):
                if text.strip():
                    yield Text(text, beside_calls=calls)
            case ThinkingBlock(thinking=text):
                if text.strip():
                    yield Reasoning(text)
            case ReasoningBlock(content=content, summary=summary):
                yield from map(Reasoning, _joined_thoughts(content or summary))
            case RedactedThinkingBlock():
                continue  # encrypted by another provider: vLLM cannot read it
            case _:
                raise _unsupported_block(message, block)
    for call_id, (name, arguments) in stored.items():
        yield FunctionCall(call_id, name, call_arguments(arguments))


def _results(message: Message) -> Iterator[PromptItem]:
    if message.tool_call_id is not None:
        content = message.content
        parts = (ToolText(content),) if isinstance(content, str) else [_result_part(message, each) for each in content]
        yield Result(message.tool_call_id, tuple(parts) or (ToolText(""),))
        return
    for block in _blocks(message):
        if not isinstance(block, ToolResultBlock):
            raise InvalidRequestError(f"a {message.role!r} message has no tool_call_id", provider=PROVIDER)
        yield Result(block.tool_call_id, (ToolText(output_text(block.output)),))


def _result_part(message: Message, block: ContentBlockUnion) -> Part:
    match block:
        case ToolResultBlock(output=output):
            return ToolText(output_text(output))
        case TextBlock(text=text):
            return ToolText(text)
        case _:
            return _part(message, block)


def _part(message: Message, block: ContentBlockUnion) -> Part:
    match block:
        case TextBlock(text=text):
            return text
        case ImageBlock(source=source):
            return Image(source)
        case _:
            raise _unsupported_block(message, block)


def _attach(items: list[PromptItem], tag: str, text: str) -> None:
    """Attach a late system or developer message to the last item, to keep the prefix cache and the turn's reasoning.

    At the front it would change the prompt before the whole history; as a user message of its own it would make
    templates such as Qwen3's drop the reasoning of the current tool turn.
    """
    if not text.strip():
        return
    reminder = Reminder(text if text.lstrip().startswith(f"<{tag}>") else f"<{tag}>\n{text}\n</{tag}>")
    match items[-1:]:
        case [User() | Result() as last]:
            items[-1] = msgspec.structs.replace(last, parts=(*last.parts, reminder))
        case _:
            items.append(User((reminder,)))


def _system_text(message: Message) -> str:
    texts: list[str] = []
    for block in _blocks(message):
        if not isinstance(block, TextBlock):
            raise _unsupported_block(message, block)
        texts.append(block.text)
    return "\n\n".join(texts)


def _blocks(message: Message) -> Sequence[ContentBlockUnion]:
    return [TextBlock(text=message.content)] if isinstance(message.content, str) else message.content


def _joined_thoughts(parts: Sequence[Json]) -> list[str]:
    """The parts of an OpenAI reasoning block as one text: vLLM reads only the first part of an item."""
    texts = [text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str)]
    return ["\n".join(texts)] if any(text.strip() for text in texts) else []


def _original_arguments(block: ToolCallBlock) -> str:
    """The model's raw arguments, if they still equal the block's: sessions may change a stored call."""
    match (block.model_extra or {}).get("vllm"):
        case {"arguments": str(original)} if _is_same_json(original, block.input):
            return original
        case _:
            return call_arguments(block.input)


def _is_same_json(original: str, arguments: object) -> bool:
    try:
        return bool(msgspec.json.decode(original) == arguments)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False


def _format(request: ChatRequest) -> Format | None:
    match request.response_format:
        case ResponseFormatJson():
            return Format()
        case ResponseFormatJsonSchema(json_schema=spec, strict=strict):
            schema = spec["schema"] if isinstance(spec.get("schema"), dict) else spec
            return Format(spec.get("name") or spec.get("title") or "response", schema, strict)
        case _:
            return None


def _unsupported_block(message: Message, block: ContentBlockUnion) -> InvalidRequestError:
    return InvalidRequestError(f"vLLM cannot be sent a {block.type!r} block from the {message.role}", provider=PROVIDER)
