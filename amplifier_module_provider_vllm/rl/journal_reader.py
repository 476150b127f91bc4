"""Read the journal of a session as a trajectory, whether it has ended or not."""

import json
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from .._strict_json import read_json
from .fields import Fields
from .trajectory import SOURCES, Call, Observation, Source, Step, ToolCall, Trajectory

logger = logging.getLogger(__name__)

Record: TypeAlias = Mapping[str, Any]

RECENT: Final = 4
"""A prompt may begin like that of so many calls before it: other calls of a session stand between those of its
conversation."""


def read_journal(path: Path) -> Trajectory:
    """The session so far; a line that was being written when its process died is left out, and the log says so.

    Raises `OSError` for a file that cannot be read, and `ValueError` with the line for one that is invalid.
    """
    reader = _Reader()
    for line in read_lines(path):
        try:
            reader.read(line.record)
        except ValueError as error:
            raise ValueError(f"{path}:{line.number}: {error}") from error
    if reader.trajectory is None:
        raise ValueError(f"{path} has no session in it")
    model = next((step.call.model for step in reader.steps if step.call is not None), "")
    return replace(reader.trajectory, steps=tuple(reader.steps), model=model)


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    record: Record
    end: int
    """The place in the file behind it."""


def read_lines(path: Path) -> Iterator[Line]:
    """The complete lines of a journal. A last line without its end is left out, and the log says so."""
    end = 0
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                logger.warning("%s:%d: the last line has no end, it is left out", path, number)
                return
            end += len(data)
            yield Line(number, _record(data, f"{path}:{number}"), end)


def _record(data: bytes, place: str) -> Record:
    try:
        record = Fields(json.loads(data))
        record.text("kind")
    except RecursionError as error:
        raise ValueError(f"{place}: nested too deep") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    return record.all()


@dataclass(slots=True)
class _Reader:
    """Folds records into the steps of a trajectory."""

    trajectory: Trajectory | None = None
    steps: list[Step] = field(default_factory=list[Step])
    _recent: deque[tuple[int, ...]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def read(self, record: Record) -> None:
        read = Fields(record)
        kind = read.text("kind")
        if (self.trajectory is None) != (kind == "session"):
            raise read.error("kind", "the first record, and no other, is of kind 'session'")
        match kind:
            case "session":
                self.trajectory = _trajectory(read)
            case "message":
                step = Step(_source(read), read.text("content"), timestamp=read.maybe_text("timestamp"))
                self.steps.append(step)
            case "observation":
                self._add_observation(Observation(read.text("tool_call_id"), read.text("content")))
            case "call":
                self._add_call(read)
            case "reward":
                self.trajectory = cast("Trajectory", self.trajectory).with_reward(read.maybe_number("value"))
            case "end":
                return
            case _:
                raise read.error("kind", "session, message, observation, call, reward or end is needed")

    def _add_call(self, read: Fields) -> None:
        base, shared = read.whole("base"), read.whole("shared")
        ids = self._recent[-base] if 0 < base <= len(self._recent) else ()
        if shared > len(ids):
            raise read.error("shared", f"at most {len(ids)} ids can be shared with that call")
        call = Call.from_event({**read.all(), "prompt_token_ids": ids[:shared] + read.ids("prompt_token_ids")})
        self._recent.append(call.prompt_token_ids + call.token_ids)
        self.steps.append(agent_step(read.all(), call))

    def _add_observation(self, observation: Observation) -> None:
        for place in range(len(self.steps) - 1, -1, -1):
            step = self.steps[place]
            if any(call.call_id == observation.call_id for call in step.tool_calls):
                self.steps[place] = replace(step, observations=(*step.observations, observation))
                return
        # The call was made before the journal began, or by another provider.
        self.steps.append(Step("user", observation.content))


def _trajectory(read: Fields) -> Trajectory:
    return Trajectory(
        session_id=read.text("session_id"),
        steps=(),
        parent_session_id=read.maybe_text("parent_session_id"),
        agent_name=read.text("agent_name"),
        agent_version=read.text("agent_version"),
        tools=tuple(tool.all() for tool in read.objects("tools")),
    )


def _source(read: Fields) -> Source:
    source = read.text("source")
    if source not in SOURCES:
        raise read.error("source", f"one of {', '.join(SOURCES)} is needed")
    return source


def agent_step(event: Record, call: Call) -> Step:
    """What the model said in one call, from the blocks of its event."""
    content = Fields(event).objects("content")
    thinking = [block.text("thinking") for block in content if block.text("type") == "thinking"]
    texts = [block.text("text") for block in content if block.text("type") == "text"]
    return Step(
        source="agent",
        message="".join(texts),
        reasoning="".join(thinking) or None,
        tool_calls=tuple(_tool_call(block) for block in content if block.text("type") == "tool_call"),
        call=call,
        timestamp=call.timestamp,
    )


def _tool_call(block: Fields) -> ToolCall:
    """Arguments that are no JSON object stand under the key of the text that the model wrote."""
    text = block.text("arguments")
    try:
        arguments = read_json(text)
    except ValueError:
        arguments = None
    return ToolCall(
        block.text("id"), block.text("name"), arguments if isinstance(arguments, dict) else {"arguments": text}
    )
