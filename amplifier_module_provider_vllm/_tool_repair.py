"""Repair a copy of a history with unpaired calls or results; servers refuse it, and with it every later turn."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from amplifier_core.message_models import (
    ContentBlockUnion,
    ImageBlock,
    Message,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)

from ._call_ids import IdentifiedHistory, with_call_ids
from ._control_tokens import escape_control_tokens
from ._message_shapes import output_parts, stored_calls
from ._prompt import Image, ToolText

_Ids = tuple[list[str], list[str]]
"""The call ids of a message, including those that loops store beside its content, and its result ids."""

NO_RESULT = "[No result: the call was interrupted before the tool answered.]"


@dataclass(frozen=True, slots=True)
class RepairedHistory:
    messages: list[Message]
    unanswered: list[str] = field(default_factory=list[str])
    """Ids of calls that got a placeholder result."""
    orphaned: list[str] = field(default_factory=list[str])
    """Ids of results without an earlier call, which became user messages."""
    tools: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    """The names of the tools of these calls and results, as far as they are known."""
    warnings: list[str] = field(default_factory=list[str])
    """What else was not as it should be, in a sentence each."""

    def with_new_repairs(self, is_new: Callable[[str], bool]) -> "RepairedHistory":
        """The same history with only the new repairs."""
        unanswered = [one for one in self.unanswered if is_new(f"no result for {one}")]
        orphaned = [one for one in self.orphaned if is_new(f"no call for {one}")]
        return replace(self, unanswered=unanswered, orphaned=orphaned)

    @property
    def summary(self) -> str:
        """The repairs in words, with the names of the tools."""
        calls = [f"no result for {self._named(one)}" for one in self.unanswered]
        return ", ".join([*calls, *(f"no call for the result of {self._named(one)}" for one in self.orphaned)])

    def _named(self, call_id: str) -> str:
        return f"{self.tools.get(call_id, 'a tool')} ({call_id})"


def repair_tool_sequence(messages: Sequence[Message]) -> RepairedHistory:
    """The history with a result after every call and a call before every result. The caller's list is not changed."""
    pairs = [_ids(message) for message in messages]
    identified = IdentifiedHistory([*messages])
    if any("" in calls or "" in results for calls, results in pairs):
        identified = with_call_ids(messages)
        messages = identified.messages
        pairs = [_ids(message) for message in messages]
    if _is_paired(pairs):
        return RepairedHistory(identified.messages, warnings=identified.warnings)
    history = RepairedHistory([], tools=_tool_names(messages), warnings=identified.warnings)
    call_ids: set[str] = set()
    waiting: list[str] = []
    for message, (calls, ids), unanswered in zip(messages, pairs, _unanswered(pairs), strict=True):
        orphans = [call_id for call_id in ids if call_id not in call_ids]
        if len(orphans) == len(ids):  # the message has no result that a waiting call could match
            _add_missing_results(history, waiting)
        history.orphaned.extend(one for one in orphans if one not in identified.unclear)
        history.messages.extend(_without_results(message, orphans) if orphans else [message])
        call_ids.update(calls)
        waiting.extend(unanswered)
    _add_missing_results(history, waiting)
    return history


def _ids(message: Message) -> _Ids:
    """The ids of a message; empty for a call or result that was stored without one."""
    blocks = () if isinstance(message.content, str) else message.content
    calls = [block.id for block in blocks if block.type == "tool_call"] if blocks else []
    if stored := stored_calls(message):
        calls = list(dict.fromkeys([*calls, *(call.call_id for call in stored)]))
    if message.tool_call_id:
        return calls, [message.tool_call_id]
    results = [block.tool_call_id for block in blocks if block.type == "tool_result"] if blocks else []
    unnamed = message.role in ("tool", "function") and (not blocks or len(results) < len(blocks))
    return calls, [*results, ""] if unnamed else results


def _is_paired(pairs: Sequence[_Ids]) -> bool:
    """Whether every result follows its call, and every call has a result before its id is used again."""
    call_ids: set[str] = set()
    waiting: set[str] = set()
    for calls, results in pairs:
        if not call_ids.issuperset(results):
            return False
        waiting.difference_update(results)
        if not waiting.isdisjoint(calls):
            return False
        call_ids.update(calls)
        waiting.update(calls)
    return not waiting


def _unanswered(pairs: Sequence[_Ids]) -> list[list[str]]:
    """For each message its calls without a result in a later message; a server may use an id again."""
    unanswered: list[list[str]] = []
    coming: set[str] = set()
    for calls, results in reversed(pairs):
        unanswered.append([call_id for call_id in dict.fromkeys(calls) if call_id not in coming])
        coming.difference_update(calls)
        coming.update(results)
    return unanswered[::-1]


def _tool_names(messages: Sequence[Message]) -> dict[str, str]:
    names: dict[str, str] = {}
    for message in messages:
        if message.tool_call_id is not None and message.name:
            names.setdefault(message.tool_call_id, message.name)
        blocks = () if isinstance(message.content, str) else message.content
        names.update({block.id: block.name for block in blocks if isinstance(block, ToolCallBlock)})
        names.update({call.call_id: call.name for call in stored_calls(message)})
    return names


def _add_missing_results(history: RepairedHistory, waiting: list[str]) -> None:
    history.unanswered.extend(waiting)
    history.messages.extend(Message(role="tool", tool_call_id=call_id, content=NO_RESULT) for call_id in waiting)
    waiting.clear()


def _without_results(message: Message, orphans: Collection[str]) -> Iterator[Message]:
    """The rest of a message without its orphaned results, if any, and a user message with their content."""
    tool = escape_control_tokens(message.name or "a tool")
    heading = f"[Earlier result of {tool}, whose call is no longer in the conversation]"
    if isinstance(message.content, str):
        yield Message(role="user", content=f"{heading}\n{escape_control_tokens(message.content)}")
        return
    answers_nothing = message.tool_call_id is not None
    lost = set(orphans)
    moved = [block for block in message.content if answers_nothing or _result_id(block) in lost]
    kept = [] if answers_nothing else [block for block in message.content if _result_id(block) not in lost]
    if kept or _ids(message)[0]:
        yield message.model_copy(update={"content": kept})
    user_blocks = [as_user for block in moved for as_user in _as_user_blocks(block)]
    yield Message(role="user", content=[TextBlock(text=heading), *user_blocks])


def _result_id(block: ContentBlockUnion) -> str | None:
    return block.tool_call_id if isinstance(block, ToolResultBlock) else None


def _as_user_blocks(block: ContentBlockUnion) -> Iterator[ContentBlockUnion]:
    match block:
        case ToolResultBlock(output=output):
            yield from map(_part_as_user_block, output_parts(output))
        case TextBlock(text=text):
            yield TextBlock(text=escape_control_tokens(text))
        case _:
            yield block


def _part_as_user_block(part: ToolText | Image) -> ContentBlockUnion:
    match part:
        case Image(source):
            return ImageBlock(source=dict(source))
        case ToolText(text):
            return TextBlock(text=escape_control_tokens(text))
        case _:
            assert_never(part)
