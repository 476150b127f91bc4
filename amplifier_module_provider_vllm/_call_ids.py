"""Give an id to calls and results that were stored without one, and pair them where that is unambiguous.

Servers pair a result with its call by id. Ollama's calls have none, and a hand-made or compacted history may lack some.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from amplifier_core.message_models import ContentBlockUnion, Message, ToolCallBlock, ToolResultBlock

from ._message_shapes import stored_calls

_Nameless = tuple[str, int]
"""A call without an id: its name, and how many calls of this name without an id are before it in the message."""


class _Call(NamedTuple):
    key: str | _Nameless
    """Its id, if it has one."""
    name: str

    @property
    def call_id(self) -> str:
        return self.key if isinstance(self.key, str) else ""


class _Result(NamedTuple):
    place: tuple[int, int]
    """Message and block; block -1 is the message itself."""
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class IdentifiedHistory:
    messages: list[Message]
    warnings: list[str] = field(default_factory=list[str])
    """What was done with results that have lost their id, in a sentence each."""
    unclear: set[str] = field(default_factory=set[str])
    """The new ids of results whose call is not clear."""


def with_call_ids(messages: Sequence[Message]) -> IdentifiedHistory:
    """The history with an id for every call and result; a result whose call is not clear gets one of no call."""
    history = IdentifiedHistory([])
    earlier: set[str] = set()
    for turn in _turns([part for message in messages for part in _split(message)]):
        _add_turn(history, turn, earlier)
    return history


def _split(message: Message) -> Iterator[Message]:
    """A tool message with results beside other blocks as two; the other blocks are a result without an id."""
    blocks = _result_blocks(message)
    if message.role not in ("tool", "function") or message.tool_call_id or not blocks:
        yield message
        return
    yield message.model_copy(update={"content": blocks, "tool_call_id": None})
    if others := [block for block in message.content if not isinstance(block, ToolResultBlock)]:
        yield message.model_copy(update={"content": others, "tool_call_id": None})


def _turns(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """The history in pieces that begin with a message of the assistant; its results are in its own piece."""
    turn: list[Message] = []
    for message in messages:
        if message.role == "assistant" and turn:
            yield turn
            turn = []
        turn.append(message)
    if turn:
        yield turn


def _add_turn(history: IdentifiedHistory, turn: Sequence[Message], earlier: set[str]) -> None:
    """Add a turn with its ids; `earlier` are the ids of the calls before it."""
    start = len(history.messages)
    calls = list(dict.fromkeys(_calls(turn[0])))
    results = [result for place, message in enumerate(turn) for result in _results(place, message)]
    known = earlier | {call.call_id for call in calls}
    answered = {result.call_id for result in results if result.call_id} & known
    waiting = [call for call in calls if call.call_id not in answered]
    unclear = any(not call.call_id for call in calls)
    loose = [one for one in results if not one.call_id or (unclear and one.call_id not in known)]

    new_calls = {call.key: f"call_{start}_{n}" for n, call in enumerate(calls) if not call.call_id}
    new_results = {one.place: f"result_{start + one.place[0]}_{n}" for n, one in enumerate(loose) if not one.call_id}
    for call, result in _pairs(waiting, loose):
        new_calls[call.key] = new_results[result.place] = call.call_id or result.call_id or new_calls[call.key]
    paired = set(new_calls.values())
    history.unclear.update(set(new_results.values()) - paired)
    history.messages.extend(_with_ids(message, place, new_calls, new_results) for place, message in enumerate(turn))
    history.warnings.extend(_warnings(loose, new_results, known, paired))
    earlier.update(call.call_id or new_calls[call.key] for call in calls)


def _pairs(calls: Sequence[_Call], results: Sequence[_Result]) -> list[tuple[_Call, _Result]]:
    """Calls and results by position if there are as many of both, else by name."""
    together = list(zip(calls, results, strict=False))
    if len(calls) == len(results) and all(_may_pair(call, result) for call, result in together):
        return together
    pairs: list[tuple[_Call, _Result]] = []
    for name in dict.fromkeys(result.name for result in results if result.name):
        named = [call for call in calls if call.name == name], [result for result in results if result.name == name]
        if len(named[0]) == len(named[1]):
            pairs += [pair for pair in zip(*named, strict=True) if _may_pair(*pair)]
    return pairs


def _may_pair(call: _Call, result: _Result) -> bool:
    return not (call.call_id and result.call_id) and result.name in ("", call.name)


def _warnings(
    results: Sequence[_Result], new_ids: Mapping[tuple[int, int], str], known: Collection[str], paired: Collection[str]
) -> Iterator[str]:
    """A sentence for each result that has lost its id."""
    for tool, call_id in [(one.name, new_ids[one.place]) for one in results if not one.call_id]:
        which = f"a result of {tool!r}" if tool else "a result"
        if call_id not in paired:
            yield f"{which} has no tool_call_id, and it is not clear which call it answers: it is sent as text"
        elif call_id in known:
            yield f"{which} has no tool_call_id: it is taken for the result of {call_id!r}"


def _with_ids(
    message: Message, place: int, calls: Mapping[str | _Nameless, str], results: Mapping[tuple[int, int], str]
) -> Message:
    if message.role == "assistant":
        return _with_ids_of_calls(message, calls) if any(not call.call_id for call in _calls(message)) else message
    if (place, -1) in results:
        return message.model_copy(update={"tool_call_id": results[place, -1]})
    ids = {n: results[place, n] for n in range(len(message.content)) if (place, n) in results}
    blocks = [_with_id(block, "tool_call_id", ids.get(n)) for n, block in enumerate(_blocks(message))]
    return message.model_copy(update={"content": blocks}) if ids else message


def _with_ids_of_calls(message: Message, ids: Mapping[str | _Nameless, str]) -> Message:
    """The message with the ids in both places; the calls beside its content in the shape that loops write."""
    beside = stored_calls(message)
    keys = iter(list(_calls(message)))
    content = [
        _with_id(block, "id", ids.get(next(keys).key)) if isinstance(block, ToolCallBlock) else block
        for block in _blocks(message)
    ]
    stored = [
        {"id": ids.get(key.key, call.call_id), "tool": call.name, "arguments": call.arguments}
        for key, call in zip(keys, beside, strict=True)
    ]
    update = {"content": content} if content else {}
    return message.model_copy(update=update | ({"tool_calls": stored} if stored else {}))


def _with_id(block: ContentBlockUnion, name: str, new_id: str | None) -> ContentBlockUnion:
    return block if new_id is None else block.model_copy(update={name: new_id})


def _calls(message: Message) -> Iterator[_Call]:
    """The calls in the content, and those beside it: the same ones, stored twice, or more of them."""
    if message.role != "assistant":
        return
    listed = [(block.id, block.name) for block in _blocks(message) if isinstance(block, ToolCallBlock)]
    for source in (listed, [(call.call_id, call.name) for call in stored_calls(message)]):
        nameless: dict[str, int] = {}
        for call_id, name in source:
            yield _Call(call_id or _count_up(nameless, name), name)


def _count_up(counts: dict[str, int], name: str) -> _Nameless:
    counts[name] = counts.get(name, -1) + 1
    return name, counts[name]


def _results(place: int, message: Message) -> Iterator[_Result]:
    if message.role in ("tool", "function") and (message.tool_call_id or not _result_blocks(message)):
        extra = message.model_extra or {}
        yield _Result((place, -1), message.tool_call_id or "", message.name or extra.get("tool_name") or "")
        return
    for n, block in enumerate(_blocks(message)):
        if isinstance(block, ToolResultBlock):
            yield _Result((place, n), block.tool_call_id, message.name or "")


def _result_blocks(message: Message) -> list[ContentBlockUnion]:
    return [block for block in _blocks(message) if isinstance(block, ToolResultBlock)]


def _blocks(message: Message) -> Sequence[ContentBlockUnion]:
    return () if isinstance(message.content, str) else message.content
