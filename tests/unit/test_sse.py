"""Server-sent events are read the same for any split and for any other lines between them."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._wire.sse import Frame, SSEFramer
from tests.support.recordings import load_broken_stream, load_recording
from tests.support.rounds import MODELS, streams_of, to_frames

STREAMS = streams_of(*MODELS)
SHORT_STREAMS = [(group, case) for group, case in STREAMS if len(load_recording(group, case).body) < 20_000]

BOM = b"\xef\xbb\xbf"

lines = st.one_of(
    st.sampled_from(
        [
            b"",
            b"",
            b"data: {}",
            b"data:{}",
            b"data",
            b"data:",
            b"event: e",
            b"event:e",
            b"event: message",
            b"event",
            b": ping",
        ]
    ),
    st.sampled_from(
        [b"id: 7", b"retry: 10", b"data:  two spaces", "data: é世🦄".encode(), b"data: [DONE]", b"nonsense"]
    ),
    st.binary(max_size=6).map(lambda made: made.replace(b"\r", b"").replace(b"\n", b"")),
)
endings = st.sampled_from([b"\n", b"\r\n", b"\r"])
bodies = st.builds(
    lambda bom, made, rest: bom + b"".join(line + ending for line, ending in made) + rest,
    st.sampled_from([b"", BOM]),
    st.lists(st.tuples(lines, endings), max_size=20),
    lines,
)


def split_at(body: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]


def reference_events(body: bytes) -> list[Frame]:
    """The events of a body, read line by line as in the standard, with the last one dispatched at the end."""
    frames, name, data = [], b"", list[bytes]()
    for line in [*re.split(rb"\r\n|\r|\n", body.removeprefix(BOM)), b""]:
        field, _, value = line.partition(b":")
        match field:
            case b"" if not line:
                frames.append(Frame(b"" if name == b"message" else name, b"\n".join(data)))
                name, data = b"", []
            case b"data":
                data.append(value.removeprefix(b" "))
            case b"event":
                name = value.removeprefix(b" ")
    return [frame for frame in frames if frame.data]


@given(bodies, st.lists(st.integers(min_value=0), max_size=8))
def test_any_split_of_any_stream_gives_the_events_of_the_standard(body: bytes, places: list[int]) -> None:
    frames = to_frames(split_at(body, places))

    assert frames == reference_events(body)


@given(st.sampled_from(SHORT_STREAMS), st.lists(st.integers(min_value=0), max_size=40))
def test_any_split_of_a_recorded_stream_gives_the_same_frames(stream: tuple[str, str], places: list[int]) -> None:
    body = load_recording(*stream).body

    frames = to_frames(split_at(body, places))

    assert frames == reference_events(body)


@pytest.mark.parametrize(("group", "case"), STREAMS)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_every_recorded_stream_reads_the_same_in_pieces(group: str, case: str, size: int) -> None:
    body = load_recording(group, case).body

    frames = to_frames(body[start : start + size] for start in range(0, len(body), size))

    assert frames == to_frames([body])
    assert [json.loads(frame.data)["type"].encode() for frame in frames] == [frame.event for frame in frames]
    assert frames[-1].event == b"response.completed"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"event: a\ndata: 1\n\n", [Frame(b"a", b"1")]),
        (b"event: a\r\ndata: 1\r\n\r\n", [Frame(b"a", b"1")]),
        (b"event: a\rdata: 1\r\r", [Frame(b"a", b"1")]),
        (b"event: a\r\ndata: 1\n\r", [Frame(b"a", b"1")]),
        (b"event:a\ndata:1\n\n", [Frame(b"a", b"1")]),
        (b"data: 1\nevent: a\n\n", [Frame(b"a", b"1")]),
        (BOM + b"data: 1\n\n", [Frame(b"", b"1")]),
        (b"data: 1\n\n", [Frame(b"", b"1")]),
        (b"event: message\ndata: 1\n\n", [Frame(b"", b"1")]),
        (b"event: messages\ndata: 1\n\n", [Frame(b"messages", b"1")]),
        (b"data: 1\ndata: 2\ndata\n\n", [Frame(b"", b"1\n2\n")]),
        (b"event: a\ndata: 1\ndata: 2\n\n", [Frame(b"a", b"1\n2")]),
        (b": ping\n\ndata: 1\n\n: ping\n\n", [Frame(b"", b"1")]),
        (b"event: a\n: ping\ndata: 1\nid: 4\nretry: 5\n\n", [Frame(b"a", b"1")]),
        (b"event: a\n\ndata: 1\n\n", [Frame(b"", b"1")]),
        (b"data:\n\ndata\n\nevent: a\ndata:\n\n", []),
        (b"data: 1\n\ndata: \n\ndata: 2\n\n", [Frame(b"", b"1"), Frame(b"", b"2")]),
        (b"data: 1\n\ndata: 2\ndata: 3\n\n", [Frame(b"", b"1"), Frame(b"", b"2\n3")]),
        (b"data: 1\n\nevent: a\ndata: 2\n\n", [Frame(b"", b"1"), Frame(b"a", b"2")]),
        (b"\n\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [Frame(b"", b"1"), Frame(b"", b"2")]),
        (b"data: 1\n\ndata: [DONE]\n\n", [Frame(b"", b"1"), Frame(b"", b"[DONE]")]),
        (b"event: a\ndata: 1", [Frame(b"a", b"1")]),
        (b"event: a\ndata: 1\n", [Frame(b"a", b"1")]),
        (b"event: a\r\ndata: 1\r", [Frame(b"a", b"1")]),
        (b"", []),
        (BOM, []),
        (b"\xef\xbb", []),
        (b"\n", []),
    ],
    ids=[
        "as vLLM sends it", "CRLF", "CR", "mixed line ends", "no space", "data before event", "byte order mark",
        "no event line", "the name of an event without one", "a name that begins like that", "several data lines",
        "several data lines of a named event", "comments", "other fields", "an event without data", "empty data",
        "empty data between others", "several data lines after one", "a named event after one without",
        "many blank lines", "[DONE]", "no line end at the end", "no blank line at the end", "a CR at the end",
        "nothing", "a byte order mark alone", "half a byte order mark", "a blank line alone",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1000], ids=["byte by byte", "whole"])
def test_every_line_format_of_the_standard_is_read(body: bytes, size: int, expected: list[Frame]) -> None:
    frames = to_frames(body[start : start + size] for start in range(0, len(body), size))

    assert frames == expected


def test_a_frame_is_emitted_at_its_blank_line() -> None:
    framer = SSEFramer()

    given_out = [framer.feed(read) for read in (b"data: 1\n", b"\n", b"data: 2\n\ndata:", b" 3\n\ndata: 4\n\n")]

    assert [[frame.data for frame in frames] for frames in given_out] == [[], [b"1"], [b"2"], [b"3", b"4"]]


@pytest.mark.parametrize("name", ["kill_engine", "sigkill_server", "sigterm_server"])
def test_a_truncated_stream_is_read_to_its_last_event(name: str) -> None:
    body = load_broken_stream(name).body

    frames = to_frames([body])

    assert frames == reference_events(body)
    assert frames[0].event == b"response.created"
