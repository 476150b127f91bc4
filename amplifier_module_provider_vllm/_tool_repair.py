"""Mend, on a copy, a history whose calls and results do not pair up; servers refuse it, and every later turn."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from amplifier_core.message_models import Message, ToolCallBlock, ToolResultBlock

NO_RESULT = "[No result: the call was interrupted before the tool answered.]"


@dataclass(frozen=True, slots=True)
class Repaired:
    messages: list[Message]
    unanswered: list[str] = field(default_factory=list)
    """Ids of calls that were given a result saying that there is none."""
    orphaned: list[str] = field(default_factory=list)
    """Ids of results, without a call before them, that became user messages."""


def repair_tool_sequence(messages: Sequence[Message]) -> Repaired:
    """The history with a result right behind every call and a call before every result. The caller's stays as it is."""
    answered = {call_id for message in messages for call_id in _result_ids(message)}
    repaired = Repaired([])
    called: set[str] = set()
    waiting: list[str] = []
    for message in messages:
        if waiting and not _result_ids(message):
            _answer(repaired, waiting)
        ids = _result_ids(message)
        if message.role in ("tool", "function") and ids and not called.issuperset(ids):
            repaired.orphaned.extend(ids)
            repaired.messages.append(_as_note(message))
            continue
        repaired.messages.append(message)
        calls = call_ids(message)
        called.update(calls)
        waiting.extend(call_id for call_id in calls if call_id not in answered)
    _answer(repaired, waiting)
    return repaired


def call_ids(message: Message) -> list[str]:
    """The ids of the calls in a message, each once, from its blocks and from what loops store beside them."""
    blocks = [] if isinstance(message.content, str) else message.content
    stored = (message.model_extra or {}).get("tool_calls") or ()
    ids = [block.id for block in blocks if isinstance(block, ToolCallBlock)]
    return list(dict.fromkeys([*ids, *(call["id"] for call in stored)]))


def _result_ids(message: Message) -> list[str]:
    if message.tool_call_id is not None:
        return [message.tool_call_id]
    blocks = [] if isinstance(message.content, str) else message.content
    return [block.tool_call_id for block in blocks if isinstance(block, ToolResultBlock)]


def _answer(repaired: Repaired, waiting: list[str]) -> None:
    repaired.unanswered.extend(waiting)
    repaired.messages.extend(Message(role="tool", tool_call_id=call_id, content=NO_RESULT) for call_id in waiting)
    waiting.clear()


def _as_note(message: Message) -> Message:
    blocks = [] if isinstance(message.content, str) else message.content
    outputs = [str(block.output) for block in blocks if isinstance(block, ToolResultBlock)]
    texts = [block.text for block in blocks if block.type == "text"]
    said = message.content if isinstance(message.content, str) else "\n".join([*texts, *outputs])
    tool = message.name or "a tool"
    return Message(
        role="user", content=f"[Earlier result of {tool}, whose call is no longer in the conversation]\n{said}"
    )
