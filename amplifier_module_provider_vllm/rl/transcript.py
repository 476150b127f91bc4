"""The readable side of a session: the messages of its context, written to the journal once each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from .._message_shapes import tool_text
from .._strict_json import wire_text
from .journal import JournalWriter
from .journal_reader import Record
from .trajectory import Source

Message: TypeAlias = Mapping[str, Any]

SOURCE_OF: Final[Mapping[object, Source]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "agent",
}
"""By role; every other role is that of a tool's result."""


def write_new_messages(journal: JournalWriter, messages: Sequence[Message]) -> None:
    """Write what the model was told since the messages were written last: by users, the system and tools.

    What the model said is in the journal's calls; only that from before the first of them is taken from the messages.
    """
    for index in range(_first_new(journal.last_message, messages), len(messages)):
        message = messages[index]
        source = SOURCE_OF.get(message.get("role"))
        if source is None:
            journal.write_observation(_call_id(message), _result(message), index)
        elif source != "agent" or journal.calls == 0:
            journal.write_message(source, _text(message), index, _timestamp(message))


def _first_new(last: Record | None, messages: Sequence[Message]) -> int:
    """Behind the message that was written last: at its old place, or, in a compacted history, at its last place."""
    if last is None:
        return 0
    place = last["index"]
    if place < len(messages) and _is_record(messages[place], last):
        return int(place) + 1
    behind = (index + 1 for index in reversed(range(len(messages))) if _is_record(messages[index], last))
    return next(behind, 0)


def _is_record(message: Message, record: Record) -> bool:
    source = SOURCE_OF.get(message.get("role"))
    if source is None:
        return (_call_id(message), _result(message)) == (record.get("tool_call_id"), record["content"])
    return (source, _text(message)) == (record.get("source"), record["content"])


def _result(message: Message) -> str:
    """A tool's result as the model reads it: loops write words of their own before the error of our validation."""
    return tool_text(_text(message)).text


def _call_id(message: Message) -> str:
    return str(message.get("tool_call_id") or "")


def _timestamp(message: Message) -> str | None:
    metadata = message.get("metadata")
    stamp = metadata.get("timestamp") if isinstance(metadata, Mapping) else None
    return stamp if isinstance(stamp, str) else None


def _text(message: Message) -> str:
    match message.get("content"):
        case str(text):
            return wire_text(text)
        case list() as blocks:
            return wire_text("\n".join(_parts(blocks)))
        case _:
            return ""


def _parts(blocks: Sequence[Any]) -> Iterator[str]:
    """The text of each block; a note in the place of an image."""
    for block in blocks:
        match block:
            case {"type": "text", "text": str(text)}:
                yield text
            case {"type": "tool_result", "output": output}:
                yield str(output)
            case {"type": "image"}:
                yield "[image]"
            case _:
                continue
