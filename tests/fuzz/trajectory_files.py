"""Any file of trajectories is read, and can be written again, or is refused with its name and one readable line."""

import json
import tempfile
from pathlib import Path

from amplifier_module_provider_vllm.rl import Trajectory, from_atif, from_rows, read_trajectories, to_atif, to_rows

SUFFIXES = (".json", ".jsonl")
LONGEST_MESSAGE = 2_500


def trajectory_files(data: bytes) -> None:
    """The first byte is the kind of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file").with_suffix(SUFFIXES[data[0] % 2 if data else 0])
        path.write_bytes(data[1:])
        try:
            sessions = list(read_trajectories(path))
        except ValueError as error:
            message = str(error)
            assert message.startswith(str(path))
            assert message.isprintable(), repr(message)
            assert len(message) <= LONGEST_MESSAGE
            return
    for session in sessions:
        _check_session(session)


def _check_session(session: Trajectory) -> None:
    assert from_atif(json.loads(json.dumps(to_atif(session), allow_nan=False))) == session
    segments, sampled = session.segments, sum(len(call.token_ids) for call in session.calls)
    assert sum(segment.sampled for segment in segments) == sampled
    again = [segment for read in from_rows(to_rows(session)) for segment in read.segments]
    assert [segment.ids for segment in again] == [segment.ids for segment in segments]
