"""Read the calls, thoughts, outputs and images that loops and other providers store, each in its own shape."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, assert_never

import msgspec
from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import (
    ContentBlockUnion,
    ImageBlock,
    Message,
    ReasoningBlock,
    RedactedThinkingBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from pydantic import BaseModel

from ._constants import INVALID_INPUT, PROVIDER, UNKNOWN_TOOL
from ._prompt import Image, ToolText
from ._strict_json import Json
from ._turn import HostedCall

_encode_json = json.JSONEncoder(ensure_ascii=False).encode

DENIALS: Final = ("Denied by hook: ", "Tool execution denied: ")
"""What Amplifier's loops write before a hook's reason to deny a call."""


class StoredCall(NamedTuple):
    """A call stored beside a message's content."""

    call_id: str
    """Empty if it was stored without one: Ollama's calls have none."""
    name: str
    arguments: object


def stored_calls(message: Message) -> Sequence[StoredCall]:
    """The calls in the field `tool_calls` of an assistant's message. Raises `InvalidRequestError` for one without name.

    Amplifier's loops write `tool`, replies of providers `name`, OpenAI's chat messages `function`; old ones
    of those have a single `function_call`.
    """
    extra = message.model_extra
    if not extra or message.role != "assistant":  # the common case
        return ()
    calls = extra.get("tool_calls")
    if calls is None and extra.get("function_call") is not None:
        calls = [extra["function_call"]]
    return [_call(call.model_dump() if isinstance(call, BaseModel) else call) for call in calls or ()]


def stored_hosted_call(block: ContentBlockUnion) -> HostedCall | None:
    """The call of a block in which our replies tell a call that the server has run."""
    match block:
        case ThinkingBlock(model_extra={"vllm": {"hosted_call": {**stored}}}):
            with suppress(msgspec.ValidationError):
                return msgspec.convert({"server": None, **stored}, HostedCall)  # a stored session has no None
        case _:
            pass
    return None


def stored_thought(message: Message) -> str:
    """The thought stored beside a message's content, by loops as a block, by OpenAI-compatible servers as text."""
    extra = message.model_extra or {}
    match extra.get("thinking_block"):
        case ThinkingBlock(thinking=text) | {"thinking": str(text)}:
            return text
        case _:
            texts = (extra.get(key) for key in ("reasoning_content", "reasoning"))
            return next((text for text in texts if isinstance(text, str)), "")


def thought_text(block: ThinkingBlock | ReasoningBlock | RedactedThinkingBlock) -> str:
    """The thought in plain text; empty if there is none. Its parts are one text: vLLM reads only an item's first."""
    match block:
        case ThinkingBlock(thinking=text):
            return text
        case ReasoningBlock(content=content, summary=summary):
            return _joined_text(content) or _joined_text(summary)
        case RedactedThinkingBlock():
            return ""
        case _:
            assert_never(block)


def holds_encrypted_thought(block: ThinkingBlock | ReasoningBlock | RedactedThinkingBlock) -> bool:
    """Whether a block without text has what only the provider can read that made it."""
    fields: dict[str, Json] = block.model_dump(exclude={"type", "visibility", "thinking"})
    return any(value if not isinstance(value, list) else any(value) for value in fields.values())


def output_parts(output: Json) -> tuple[ToolText | Image, ...]:
    """A tool's output: images as images, everything else as text."""
    listed = output if isinstance(output, list | tuple) else [output]
    images = [_output_image(each) for each in listed]
    if all(image is None for image in images):
        return (tool_text(_output_text(output)),)
    return tuple(image or tool_text(_element_text(each)) for image, each in zip(images, listed, strict=True))


def tool_text(text: str) -> ToolText:
    """A tool's output; an error of our tool validation without what the loop wrote before it: models train on it."""
    for denial in DENIALS:
        if text.startswith(denial) and text.startswith((UNKNOWN_TOOL, INVALID_INPUT), len(denial)):
            return ToolText(text.removeprefix(denial))
    return ToolText(text)


def _joined_text(parts: Sequence[Json]) -> str:
    texts = [text for part in parts if isinstance(part, Mapping) and isinstance(text := part.get("text"), str)]
    return "\n".join(texts) if any(text.strip() for text in texts) else ""


def _call(call: Json) -> StoredCall:
    if isinstance(call, dict) and isinstance(function := call.get("function", call), dict):
        name = function.get("tool", function.get("name"))
        if isinstance(name, str):
            call_id = call.get("id") or call.get("call_id") or call.get("tool_call_id") or ""
            return StoredCall(str(call_id), name, function.get("arguments") or function.get("input") or {})
    message = f"a stored tool call has no name of a tool: {call!r:.200}"
    raise InvalidRequestError(message, provider=PROVIDER)


def _first_text(call: Mapping[Any, object], keys: Iterable[str]) -> str:
    return next((value for key in keys if isinstance(value := call.get(key), str) and value), "")


def _output_image(element: Json | ImageBlock) -> Image | None:
    """The image of a content part in the shape of Amplifier and Anthropic, of OpenAI, or of MCP."""
    match element:
        case ImageBlock(source=source) | {"type": "image", "source": Mapping() as source}:
            image = Image(source)
        case {"type": "image_url" | "input_image", "image_url": {"url": str(url)} | str(url)}:
            image = Image({"url": url})
        case {"type": "image", "data": str(data), **rest}:
            media_type = _first_text(rest, ["mimeType", "media_type"]) or "image/png"
            image = Image({"type": "base64", "data": data, "media_type": media_type})
        case _:
            return None
    return image if image.can_be_sent else None


def _element_text(element: object) -> str:
    match element:
        case {"type": "text" | "input_text", "text": str(text)}:
            return text
        case _:
            return _output_text(element)


def _output_text(output: object) -> str:
    """A tool's output as text: strings unchanged, the rest as JSON, or as `str()` if JSON fails."""
    if isinstance(output, str):
        return output
    try:
        return "" if output is None else json.dumps(output, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(output)


def original_arguments(block: ToolCallBlock) -> str:
    """The model's raw arguments, if they still equal the block's: sessions may change a stored call."""
    match (block.model_extra or {}).get("vllm"):
        case {"arguments": str(original)} if _is_same_json(original, block.input):
            return original
        case _:
            return json_arguments(block.input)


def json_arguments(arguments: object) -> str:
    """A call's arguments as JSON; a string is already JSON."""
    return arguments if isinstance(arguments, str) else _encode_json(arguments)


def _is_same_json(original: str, arguments: object) -> bool:
    try:
        return bool(msgspec.json.decode(original) == arguments)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
