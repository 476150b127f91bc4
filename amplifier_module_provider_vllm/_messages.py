"""Convert Amplifier's messages, tools and response format to a Prompt, in the order in which they were produced.

The prompt of a history is a prefix of the prompt of the longer history, so that vLLM finds it in its prefix cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final, assert_never

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
    ToolSpec,
)

from ._constants import PROVIDER
from ._message_shapes import (
    holds_encrypted_thought,
    json_arguments,
    original_arguments,
    output_parts,
    stored_calls,
    stored_hosted_call,
    stored_thought,
    thought_text,
    tool_text,
)
from ._prompt import (
    FUNCTION_FIELDS,
    Format,
    Image,
    Part,
    Prompt,
    PromptItem,
    Reminder,
    Result,
    ToolText,
    User,
    hosted_items,
    is_function,
)
from ._turn import FunctionCall, HostedCall, Reasoning, Text

UNSENT_FIELDS: Final = frozenset({"annotations", "audio", "refusal"})
"""What OpenAI's chat messages have beside their content."""

THOUGHTS: Final = {"thinking", "redacted_thinking", "reasoning"}
"""Types of blocks that hold reasoning."""


def to_prompt(messages: Sequence[Message], request: ChatRequest) -> Prompt:
    """The prompt of `messages`, the repaired history. Raises `InvalidRequestError` for an unsupported block."""
    leading = next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))
    conversation = _Conversation()
    for message in messages[leading:]:
        conversation.add(message)
    conversation.attach_held()
    if not conversation.items:
        raise InvalidRequestError("the request has no messages except system messages", provider=PROVIDER)
    tools = tuple(request.tools or ())
    return Prompt(
        items=tuple(conversation.items),
        instructions="\n\n".join(map(_system_text, messages[:leading])) if leading else None,
        tools=tools,
        format=_format(request),
        losses=(*conversation.losses, *_lost_fields(tools)),
    )


@dataclass(slots=True)
class _Conversation:
    """The items as they are added."""

    items: list[PromptItem] = field(default_factory=list[PromptItem])
    losses: dict[str, None] = field(default_factory=dict[str, None])
    """A sentence for each kind of content that cannot be sent."""
    held: list[Message] = field(default_factory=list[Message])
    """Late instructions between a call and its results."""

    def add(self, message: Message) -> None:
        match message.role:
            case "user":
                self.items.extend(_user(message))
                self._lose_fields(message)
            case "assistant":
                self.items.extend(_assistant(message, self.losses))
                self._lose_fields(message)
            case "tool" | "function":
                self.items.extend(_results(message))
            case "system" | "developer":
                self.held.append(message)
            case _:
                assert_never(message.role)
        if self.held and not _awaits_result(self.items):
            self.attach_held()

    def attach_held(self) -> None:
        for message in self.held:
            _attach(self.items, message)
        self.held.clear()

    def _lose_fields(self, message: Message) -> None:
        if message.name is not None:
            self.losses[f"the name {message.name!r} of a message is not sent: vLLM has no field for it"] = None
        extra = message.model_extra
        if not extra:  # the common case
            return
        for key in sorted(UNSENT_FIELDS.intersection(extra)):
            if extra[key]:
                self.losses[f"the field {key!r} of a message is not sent: vLLM has no such field"] = None


def to_items(reply: Message) -> tuple[PromptItem, ...]:
    """The items of an assistant's message, as the prompt of the next request has them."""
    return tuple(_assistant(reply, {}))


def _awaits_result(items: Sequence[PromptItem]) -> bool:
    """Whether one of the last calls has no result yet."""
    results = list(takewhile(lambda item: isinstance(item, Result), reversed(items)))
    before = islice(reversed(items), len(results), None)
    calls = takewhile(lambda item: not isinstance(item, User | Result), before)
    answered = {item.call_id for item in results if isinstance(item, Result)}
    return any(isinstance(item, FunctionCall) and item.call_id not in answered for item in calls)


def _user(message: Message) -> Iterator[PromptItem]:
    if isinstance(message.content, str):
        yield User((message.content,))
        return
    parts: list[Part] = []
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            yield Result(block.tool_call_id, output_parts(block.output))
        else:
            parts.append(_part(message, block))
    if parts:
        yield User(tuple(parts))


def _assistant(message: Message, losses: dict[str, None]) -> Iterator[PromptItem]:
    stored = {call.call_id: call for call in stored_calls(message)}
    blocks = _blocks(message)
    kinds = [block.type for block in blocks]
    hosted = _hosted_calls(blocks) if "thinking" in kinds else {}
    last_call = len(blocks) if stored or "tool_call" in kinds else max(hosted, default=-1)
    if message.model_extra and THOUGHTS.isdisjoint(kinds) and (thought := stored_thought(message)).strip():
        yield Reasoning(thought)
    for place, block in enumerate(blocks):
        match block:
            case ToolCallBlock(id=call_id, name=name):
                stored.pop(call_id, None)
                yield FunctionCall(call_id, name, original_arguments(block))
            case TextBlock(text=text):
                if text.strip():
                    yield Text(text, beside_calls=place < last_call)
            case ThinkingBlock() if place in hosted:
                yield from hosted_items(hosted[place])
            case ThinkingBlock(thinking=text) if text.strip():  # the common case
                yield Reasoning(text)
            case ThinkingBlock() | ReasoningBlock() | RedactedThinkingBlock():
                yield from _thought(block, losses)
            case _:
                raise _unsupported_block(message, block)
    for beside in stored.values():
        yield FunctionCall(beside.call_id, beside.name, json_arguments(beside.arguments))


def _hosted_calls(blocks: Sequence[ContentBlockUnion]) -> dict[int, HostedCall]:
    """The calls that the server has run, by their place among the blocks."""
    calls = ((place, stored_hosted_call(block)) for place, block in enumerate(blocks) if block.model_extra)
    return {place: call for place, call in calls if call is not None}


def _thought(
    block: ThinkingBlock | ReasoningBlock | RedactedThinkingBlock, losses: dict[str, None]
) -> Iterator[Reasoning]:
    text = thought_text(block)
    if text.strip():
        yield Reasoning(text)
    elif holds_encrypted_thought(block):
        losses["reasoning that another provider encrypted is not sent: vLLM cannot read it"] = None


def _results(message: Message) -> Iterator[PromptItem]:
    if message.tool_call_id is not None:
        yield Result(message.tool_call_id, _result_parts(message) or (ToolText(""),))
        return
    for block in _blocks(message):
        if not isinstance(block, ToolResultBlock):
            raise InvalidRequestError(f"a {message.role!r} message has no tool_call_id", provider=PROVIDER)
        yield Result(block.tool_call_id, output_parts(block.output))


def _result_parts(message: Message) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (tool_text(message.content),)
    return tuple(part for block in message.content for part in _parts_of_result(message, block))


def _parts_of_result(message: Message, block: ContentBlockUnion) -> Sequence[Part]:
    match block:
        case ToolResultBlock(output=output):
            return output_parts(output)
        case TextBlock(text=text):
            return (tool_text(text),)
        case _:
            return (_part(message, block),)


def _part(message: Message, block: ContentBlockUnion) -> Part:
    match block:
        case TextBlock(text=text):
            return text
        case ImageBlock(source=source):
            return Image(source)
        case _:
            raise _unsupported_block(message, block)


def _attach(items: list[PromptItem], message: Message) -> None:
    """Attach a late system or developer message to the last item, to keep the prefix cache and the turn's reasoning.

    At the front it would change the prompt before the whole history; as a user message of its own it would make
    templates such as Qwen3's drop the reasoning of the current tool turn.
    """
    text, tag = _system_text(message), "system-reminder" if message.role == "system" else "context_file"
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


def _format(request: ChatRequest) -> Format | None:
    match request.response_format:
        case ResponseFormatJson():
            return Format()
        case ResponseFormatJsonSchema(json_schema=spec, strict=strict):
            schema = spec["schema"] if isinstance(spec.get("schema"), dict) else spec
            return Format(spec.get("name") or spec.get("title") or "response", schema, strict)
        case _:
            return None


def _lost_fields(tools: Sequence[ToolSpec]) -> Iterator[str]:
    """A sentence for each field of a function that vLLM does not have."""
    for tool in filter(is_function, tools):
        for key in sorted((tool.model_extra or {}).keys() - FUNCTION_FIELDS):
            yield f"the field {key!r} of the tool {tool.name!r} is not sent: vLLM has no such field"


def _unsupported_block(message: Message, block: ContentBlockUnion) -> InvalidRequestError:
    return InvalidRequestError(f"vLLM cannot be sent a {block.type!r} block from the {message.role}", provider=PROVIDER)
