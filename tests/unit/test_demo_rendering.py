"""The demo's output for the events of a session."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from examples._rendering import Renderer

EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("llm:stream_block_start", {"block_index": 0, "block_type": "thinking"}),
    ("llm:stream_block_delta", {"block_index": 0, "block_type": "thinking", "text": "\n"}),
    ("llm:stream_block_delta", {"block_index": 0, "block_type": "thinking", "text": "\nI should look up\n"}),
    ("llm:stream_block_delta", {"block_index": 0, "block_type": "thinking", "text": "the weather.\n"}),
    ("llm:stream_block_end", {"block_index": 0, "block_type": "thinking"}),
    ("llm:stream_block_start", {"block_index": 1, "block_type": "tool_use", "name": "get_weather"}),
    ("llm:stream_block_end", {"block_index": 1, "block_type": "tool_use"}),
    ("llm:response", {"usage": {"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": None}}),
    ("tool:pre", {"tool_name": "get_weather", "tool_input": {"city": "Paris"}}),
    ("tool:post", {"tool_name": "get_weather", "result": {"output": "sunny, 21 C"}}),
    ("llm:stream_block_delta", {"block_index": 0, "block_type": "text", "text": "[bold]It is"}),
    ("llm:stream_block_delta", {"block_index": 0, "block_type": "text", "text": " sunny."}),
    ("llm:stream_block_end", {"block_index": 0, "block_type": "text"}),
    ("llm:response", {"usage": {"input_tokens": 150, "output_tokens": 10, "cache_read_tokens": 64}}),
]

PLAIN = """\
reasoning  I should look up
           the weather.
tool call  get_weather(city="Paris")
result     get_weather: sunny, 21 C
answer     [bold]It is sunny.
"""


def test_without_a_terminal_there_are_plain_lines_with_labels() -> None:
    written = StringIO()
    renderer = Renderer(Console(file=written, force_terminal=False))

    for event, data in EVENTS:
        renderer(event, data)

    assert written.getvalue() == PLAIN
    assert str(renderer.totals) == "250 tokens in (64 cached), 30 tokens out"


def test_on_a_terminal_every_kind_has_its_own_style() -> None:
    written = StringIO()
    renderer = Renderer(Console(file=written, force_terminal=True, color_system="standard", no_color=False))

    for event, data in EVENTS:
        renderer(event, data)

    styles = ["\x1b[2;3mI should", "\x1b[33mget_weather(", "\x1b[36mget_weather:", "\x1b[32m[bold]It is"]
    assert [style for style in styles if style in written.getvalue()] == styles


@pytest.mark.parametrize(
    ("event", "data", "line"),
    [
        ("tool:error", {"tool_name": "no", "error": {"msg": "no such tool"}}, "result     no: no such tool\n"),
        ("llm:stream_aborted", {"request_id": "r", "error": {"type": "E", "msg": "cut"}}, "broken off cut\n"),
        ("session:start", {"anything": 1}, ""),
    ],
    ids=["tool error", "aborted", "an event it does not show"],
)
def test_other_events_are_rendered_as_one_line_or_not_at_all(event: str, data: dict[str, Any], line: str) -> None:
    written = StringIO()

    Renderer(Console(file=written, force_terminal=False))(event, data)

    assert written.getvalue() == line


def test_an_aborted_stream_ends_its_line() -> None:
    written = StringIO()
    renderer = Renderer(Console(file=written, force_terminal=False))

    renderer("llm:stream_block_delta", {"block_type": "text", "text": "It is"})
    renderer("llm:stream_aborted", {"error": {"type": "StreamError", "msg": "the connection was lost"}})

    assert written.getvalue() == "answer     It is\nbroken off the connection was lost\n"
