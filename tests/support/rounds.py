"""Recorded replies as the package's stages: frames, events, updates and a Turn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amplifier_core.message_models import ChatResponse, Degradation, ToolSpec

from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._config import Rates
from amplifier_module_provider_vllm._failure import Failure
from amplifier_module_provider_vllm._response_handling import to_response
from amplifier_module_provider_vllm._responses.events import Event, decode_event, decode_reply
from amplifier_module_provider_vllm._responses.fold import ResponsesFold
from amplifier_module_provider_vllm._turn import Turn
from amplifier_module_provider_vllm._updates import BlockDelta, BlockEnd, BlockStart, Update
from amplifier_module_provider_vllm._wire.sse import Frame, SSEFramer
from tests.support.recordings import Recording, cases, load_recording

MODELS = ("tiny-qwen3", "tiny-gpt-oss")


@dataclass(frozen=True)
class FoldResult:
    """The updates, the turn and the failure of one round."""

    updates: list[Update]
    turn: Turn | None
    failure: Failure | None


def streams_of(*groups: str, pattern: str = "r*_stream") -> list[tuple[str, str]]:
    """The group and name of every complete recorded stream."""
    named = [(group, case) for group in groups for case in cases(group, pattern)]
    return [(group, case) for group, case in named if load_recording(group, case).is_stream]


def to_frames(reads: Iterable[bytes]) -> list[Frame]:
    framer = SSEFramer()
    frames = [frame for read in reads for frame in framer.feed(read)]
    return [*frames, *framer.end()]


def events_of(recording: Recording) -> list[Event]:
    """The events of a recorded reply; an unstreamed reply is one event."""
    if not recording.is_stream:
        return [decode_reply(recording.body)]
    decoded = (decode_event(frame) for frame in to_frames([recording.body]))
    return [event for event in decoded if event is not None]


def fold_events(events: Iterable[Event]) -> FoldResult:
    fold = ResponsesFold(Blocks())
    updates = [update for event in events for update in fold.push(event)]
    return FoldResult(updates, fold.turn, fold.failure)


def turn_of(recording: Recording) -> Turn:
    """The Turn of a complete recorded reply."""
    turn = fold_events(events_of(recording)).turn
    assert turn is not None
    return turn


def response_of(
    turn: Turn,
    tools: Sequence[ToolSpec] = (),
    rates: Rates | None = None,
    degradations: Sequence[Degradation] = (),
) -> ChatResponse:
    """The response of a turn without a bad call."""
    response = to_response(turn, tools, rates, degradations)
    assert isinstance(response, ChatResponse), response
    return response


def assert_contract(round_: FoldResult) -> None:
    """Blocks start at 0, 1, 2 …; deltas come between a block's start and its one end; a Turn ends them all."""
    started: list[int] = []
    open_blocks: set[int] = set()
    for update in round_.updates:
        match update:
            case BlockStart(index):
                assert index == len(started)
                started.append(index)
                open_blocks.add(index)
            case BlockDelta(index, _, text):
                assert index in open_blocks
                assert text
            case BlockEnd(index):
                open_blocks.remove(index)
    if round_.turn is not None:
        assert not open_blocks
        assert len(round_.turn.items) == len(started)


def characters(updates: list[Update]) -> list[Update | tuple[int, str]]:
    """All updates, with each delta split into characters."""
    shown: list[Update | tuple[int, str]] = []
    for update in updates:
        if isinstance(update, BlockDelta):
            shown += [(update.index, character) for character in update.text]
        else:
            shown.append(update)
    return shown
