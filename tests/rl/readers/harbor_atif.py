"""harbor finds every trajectory valid, as recorded and with a reward, and its model keeps every id."""

from collections.abc import Iterator
from importlib.metadata import version

from harbor.models.trajectories import Trajectory
from harbor.utils.trajectory_validator import TrajectoryValidator

from tests.rl.readers.written import Line, RejectedError, Written, require


def read(written: Written) -> Iterator[str]:
    heard = written.heard()
    for name in ("recorded.jsonl", "trajectories.jsonl"):
        lines = written.lines(name)
        require(sorted(heard), sorted(line["session_id"] for line in lines), f"the sessions of {name}")
        for line in lines:
            _validate(line)
            require(_calls(heard[line["session_id"]]), _metrics(line), f"the calls of {line['session_id']} in {name}")
    calls = sum(map(len, heard.values()))
    yield f"{version('harbor')}: {len(heard)} trajectories valid, ids and logprobs of {calls} calls equal"


def _validate(line: Line) -> None:
    validator = TrajectoryValidator()
    if not validator.validate(line):
        raise RejectedError(f"{line['session_id']}: {validator.errors}")


def _metrics(line: Line) -> list[object]:
    steps = Trajectory.model_validate(line).steps
    told = [step.metrics for step in steps if step.metrics is not None]
    return [(one.prompt_token_ids, one.completion_token_ids, one.logprobs) for one in told]


def _calls(heard: list[Line]) -> list[object]:
    return [(call["prompt_token_ids"], call["token_ids"], call["logprobs"]) for call in heard]
