"""h11 reads the same response from joined chunks, for any split and for invalid bytes."""

from collections.abc import Iterable
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._wire.chunks import ChunkJoiner
from tests.support.recordings import load_recording

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def split_at(body: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]


def read_by_h11(reads: Iterable[bytes]) -> tuple[list[bytes], str]:
    """The data of each read, and how it ended: "whole", "open" or "wrong"."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "vllm")]))
    connection.send(h11.EndOfMessage())
    data: list[bytes] = []
    for read in filter(None, reads):
        connection.receive_data(read)
        try:
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Data):
                    data.append(bytes(event.data))
                if isinstance(event, h11.EndOfMessage):
                    return data, "whole"
        except h11.RemoteProtocolError:
            return data, "wrong"
    return data, "open"


def join_chunks(reads: Iterable[bytes]) -> list[bytes]:
    joiner = ChunkJoiner()
    return [joiner.feed(read) for read in reads]


def assert_same(reads: list[bytes]) -> None:
    data, ending = read_by_h11(join_chunks(reads))
    expected_data, expected_ending = read_by_h11(reads)
    assert (b"".join(data), ending) == (b"".join(expected_data), expected_ending)


chunks = st.one_of(
    st.sampled_from([b"data: {}\n\n", b"a\r\nb", b"\r\n", b"5\r\nhello\r\n", b"\r\n\r\n", b"0\r\n\r\n"]),
    st.binary(min_size=1, max_size=40),
).map(chunk)
oddities = st.sampled_from(
    [b"5;name=value\r\nhello\r\n", b"3\r\nabcd\r\n", b"xyz\r\n", b"\r\n", b"-1\r\n", b"0x3\r\nabc\r\n",
     b"5\r\nhelloAB\r\n", b"00003\r\nabc\r\n", b"A\r\n0123456789\r\n", b"1_0\r\n", b"3 \r\nabc\r\n",
     b"ffffffffffffffffffffff\r\n", LAST]
)  # fmt: skip
heads = st.sampled_from(
    [HEAD, HEAD, HEAD, HEAD.lower().replace(b"http", b"HTTP"), HEAD.replace(b"\r\n", b"\n"),
     b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD, b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HEAD,
     b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n",
     HEAD.replace(b"chunked", b"gzip, chunked"), b"nonsense\r\n\r\n"]
)  # fmt: skip
places = st.lists(st.integers(min_value=0), max_size=12)


@given(st.lists(chunks, max_size=12), places)
def test_any_split_of_a_stream_reads_the_same(body: list[bytes], cuts: list[int]) -> None:
    assert_same(split_at(HEAD + b"".join(body) + LAST, cuts))


@given(
    heads, st.lists(st.one_of(chunks, oddities), max_size=8), st.sampled_from([LAST, b"", b"0\r\nx: y\r\n\r\n"]), places
)
def test_any_bytes_read_the_same(head: bytes, body: list[bytes], end: bytes, cuts: list[int]) -> None:
    assert_same(split_at(head + b"".join(body) + end, cuts))


def test_a_chunk_with_a_wrong_end_is_an_error_after_its_data() -> None:
    assert_same([HEAD + b"5\r\nhello", b"AB\r\n" + chunk(b"data: {}\n\n") + LAST])


@given(st.lists(chunks, max_size=5))
def test_byte_by_byte_reads_the_same(body: list[bytes]) -> None:
    response = HEAD + b"".join(body) + LAST

    assert_same([response[at : at + 1] for at in range(len(response))])


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_one_read_yields_one_piece(size: int, ending: str) -> None:
    body = load_recording("tiny-qwen3", "r5_long_whole_stream").body.replace(b"\n", ending.encode())
    end = 2 * ending.encode()
    response = HEAD + b"".join(chunk(event + end) for event in body.split(end) if event)
    reads = [response[start : start + size] for start in range(0, len(response), size)]

    pieces, ended = read_by_h11(join_chunks(reads))

    assert (b"".join(pieces), ended) == (body, "open")
    assert len(pieces) <= len(reads)


def test_received_data_is_passed_on_at_once() -> None:
    """An event must not wait for the next one: a chunk's data is passed on before the end of the chunk."""
    joiner = ChunkJoiner()

    given_out = [joiner.feed(read) for read in (HEAD, b"8\r\nevent", b"\n\n", b"!\r\n", b"2\r\nhi\r\n")]

    assert given_out == [HEAD, b"5\r\nevent\r\n", b"2\r\n\n\n\r\n", b"1\r\n!\r\n", b"2\r\nhi\r\n"]


def test_a_large_chunk_is_not_buffered() -> None:
    megabyte = b"x" * 1_000_000
    joiner = ChunkJoiner()
    joiner.feed(HEAD + b"%x\r\n" % (50 * len(megabyte)))

    given_out = [joiner.feed(megabyte) for _ in range(49)]

    assert {len(piece) for piece in given_out} == {len(chunk(megabyte))}
