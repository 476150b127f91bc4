"""The benchmark works: every part but the one with a real server runs, quickly, and finds what was sent."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from bench.recorded_stream import RECORDING, scaled
from bench.results import BEGIN, END, Results, with_results
from tests.support.recordings import recorded


@pytest.mark.parametrize("part", ["streaming", "concurrency", "figures"])
async def test_a_part_runs_and_writes_what_it_found(part: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", part, "--quick", "--into", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()

    found = json.loads((tmp_path / "results.json").read_text())
    assert process.returncode == 0
    assert found[part]
    assert b"| this provider, with a hook |" in told or part == "figures"


def test_a_stream_as_long_as_its_recording_is_the_recording() -> None:
    body = recorded(*RECORDING).body
    tokens = body.count(b".delta\ndata: ")

    stream = scaled(tokens)

    assert b"".join(stream.events) == body
    assert stream.tokens == tokens


def test_a_longer_stream_tells_the_text_of_its_deltas_at_its_end() -> None:
    stream = scaled(5000)

    ending = json.loads(stream.events[-1].partition(b"\ndata: ")[2])
    reasoning, message = ending["response"]["output"]
    deltas = [json.loads(event.partition(b"\ndata: ")[2]) for event in stream.events if b".delta\ndata: " in event]
    assert stream.tokens == len(deltas) == 5000
    assert reasoning["content"][0]["text"] + message["content"][0]["text"] == "".join(one["delta"] for one in deltas)
    assert message["content"][0]["text"] == stream.answer


def test_only_what_stands_between_the_markers_is_written() -> None:
    readme = f"# Title\n\n{BEGIN}old\n{END}\n\nMore.\n"

    written = with_results(readme, Results({"Python": "3"}))

    assert written == f"# Title\n\n{BEGIN}Measured with Python 3.\n{END}\n\nMore.\n"
