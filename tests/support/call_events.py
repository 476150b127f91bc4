"""The events that a call emitted, and a check of Amplifier's streaming contract."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amplifier_core.message_models import ChatResponse, TextBlock, ThinkingBlock, ToolCallBlock

from tests.support.event_recorder import EventRecorder
from tests.support.session import Event, Session

STREAM = "llm:stream_"


@dataclass(frozen=True)
class EventCounts:
    """How many events of each kind the calls emitted."""

    requests: int
    statuses: list[str]
    """The status of every `llm:response`."""
    retries: int
    aborted: int


def event_counts(session: Session) -> EventCounts:
    return EventCounts(
        requests=len(session.payloads("llm:request")),
        statuses=[data["status"] for data in session.payloads("llm:response")],
        retries=len(session.payloads("provider:retry")),
        aborted=len(session.payloads("llm:stream_aborted")),
    )


def attempts(events: Sequence[Event]) -> Iterator[list[Event]]:
    """The stream events of each attempt, split at `llm:stream_aborted`; the last attempt is the final one."""
    part: list[Event] = []
    for event in events:
        if event.name == "llm:stream_aborted":
            yield part
            part = []
        elif event.name.startswith(STREAM):
            part.append(event)
    yield part


def streamed_text(attempt: Sequence[Event]) -> str:
    """All the text of an attempt's deltas."""
    return "".join(event.data["text"] for event in attempt if event.name == "llm:stream_block_delta")


def assert_contract(session: Session | EventRecorder, response: ChatResponse | None) -> None:
    """Check that there is one request id, indices count from 0, blocks are open, and the stream equals the response."""
    assert len({event.data["request_id"] for event in session.events if _is_of_a_call(event)}) <= 1
    parts = [_blocks(attempt) for attempt in attempts(session.events)]
    assert all(blocks for blocks in parts[:-1]), "an attempt without stream events was aborted"
    last = parts[-1]
    if response is None:
        assert last == {}, "stream events of a failed call were not aborted"
    elif last:
        assert all(block.ended for block in last.values())
        assert [(b.kind, b.text) for b in last.values()] == [_expected(block) for block in response.content]
    names = [event.name for event in session.events if event.name.startswith("llm:")]
    assert names[-1].startswith("llm:response")


@dataclass
class _Block:
    kind: str
    text: str = ""
    deltas: int = 0
    ended: bool = False


def _blocks(attempt: Sequence[Event]) -> dict[int, _Block]:
    blocks: dict[int, _Block] = {}
    for event in attempt:
        index, kind = event.data["block_index"], event.data["block_type"]
        if event.name == "llm:stream_block_start":
            assert index == len(blocks), "a block started with the wrong index"
            blocks[index] = _Block(kind)
            continue
        block = blocks[index]
        assert (block.kind, block.ended) == (kind, False)
        if event.name == "llm:stream_block_end":
            block.ended = True
            continue
        assert event.data["sequence"] == block.deltas
        assert event.data["text"]
        block.deltas += 1
        block.text += event.data["text"]
    return blocks


def _expected(block: object) -> tuple[str, str]:
    match block:
        case TextBlock(text=text):
            return "text", text
        case ThinkingBlock(thinking=text):
            return "thinking", text
        case ToolCallBlock():
            return "tool_use", ""
        case _:
            raise AssertionError(f"a reply has no such block: {block!r}")


def _is_of_a_call(event: Event) -> bool:
    return event.name.startswith(("llm:", "provider:retry"))
