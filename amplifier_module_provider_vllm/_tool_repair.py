"""Repair a copy of a history with unpaired calls or results; servers refuse it, and with it every later turn."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from amplifier_core.message_models import ContentBlockUnion, Message, TextBlock, ToolResultBlock

from ._control_tokens import escape_control_tokens
from ._messages import loop_calls, output_text

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


def repair_tool_sequence(messages: Sequence[Message]) -> RepairedHistory:
    """The history with a result after every call and a call before every result. The caller's list is not changed."""
    pairs = [_ids(message) for message in messages]
    if _is_paired(pairs):
        return RepairedHistory(list(messages))
    history = RepairedHistory([])
    call_ids: set[str] = set()
    waiting: list[str] = []
    for message, (calls, ids), unanswered in zip(messages, pairs, _unanswered(pairs), strict=True):
        orphans = [call_id for call_id in ids if call_id not in call_ids]
        if len(orphans) == len(ids):  # the message has no result that a waiting call could match
            _add_missing_results(history, waiting)
        history.orphaned.extend(orphans)
        history.messages.extend(_without_results(message, orphans) if orphans else [message])
        call_ids.update(calls)
        waiting.extend(unanswered)
    _add_missing_results(history, waiting)
    return history


def _ids(message: Message) -> _Ids:
    blocks = () if isinstance(message.content, str) else message.content
    calls = [block.id for block in blocks if block.type == "tool_call"] if blocks else []
    if stored := loop_calls(message):
        calls = list(dict.fromkeys([*calls, *(call_id for call_id, _, _ in stored)]))
    if message.tool_call_id is not None:
        return calls, [message.tool_call_id]
    return calls, [block.tool_call_id for block in blocks if block.type == "tool_result"]


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
    moved = [block for block in message.content if answers_nothing or _result_id(block) in orphans]
    kept = [block for block in message.content if block not in moved]
    if kept or _ids(message)[0]:
        yield message.model_copy(update={"content": kept})
    yield Message(role="user", content=[TextBlock(text=heading), *map(_as_user_block, moved)])


def _result_id(block: ContentBlockUnion) -> str | None:
    return block.tool_call_id if isinstance(block, ToolResultBlock) else None


def _as_user_block(block: ContentBlockUnion) -> ContentBlockUnion:
    match block:
        case ToolResultBlock(output=output):
            return TextBlock(text=escape_control_tokens(output_text(output)))
        case TextBlock(text=text):
            return TextBlock(text=escape_control_tokens(text))
        case _:
            return block
