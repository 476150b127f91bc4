"""Draw a session's events as they come: reasoning, tool calls, their results and the answer, each in its own style."""

import json
import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.style import Style

LABEL_WIDTH = 11
QUESTION = Style(bold=True)
REASONING = Style(dim=True, italic=True)
CALL = Style(color="yellow")
RESULT = Style(color="cyan")
ANSWER = Style(color="green")
FAILURE = Style(color="red", bold=True)
FIGURES = Style(dim=True)


@dataclass
class Totals:
    """The server's token counts, summed over all calls of a session."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def add(self, usage: dict[str, Any]) -> None:
        self.input_tokens += usage.get("input_tokens") or 0
        self.output_tokens += usage.get("output_tokens") or 0
        self.cached_tokens += usage.get("cache_read_tokens") or 0

    def __str__(self) -> str:
        return f"{self.input_tokens} tokens in ({self.cached_tokens} cached), {self.output_tokens} tokens out"


class Renderer:
    """A listener of a session's events that writes lines: a label, then what belongs to it."""

    def __init__(self, console: Console) -> None:
        self.totals = Totals()
        self._console = console
        self._open: Style | None = None
        self._held_back = ""

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        match event, data:
            case "llm:stream_block_delta", {"block_type": "thinking", "text": str(text)}:
                self._stream("reasoning", text, REASONING)
            case "llm:stream_block_delta", {"block_type": "text", "text": str(text)}:
                self._stream("answer", text, ANSWER)
            case "llm:stream_block_end", _:
                self._close()
            case "tool:pre", {"tool_name": name, "tool_input": dict(arguments)}:
                self.line("tool call", f"{name}({_call_text(arguments)})", CALL)
            case "tool:post", {"tool_name": name, "result": {"output": output}}:
                self.line("result", f"{name}: {output}", RESULT)
            case "tool:error", {"tool_name": name, "error": {"msg": message}}:
                self.line("result", f"{name}: {message}", FAILURE)
            case "llm:stream_aborted", {"error": {"type": "CancelledError"}}:
                self._close()
            case "llm:stream_aborted", {"error": {"type": kind, "msg": message}}:
                self.line("broken off", str(message or kind), FAILURE)
            case "llm:response", {"usage": dict(usage)}:
                self.totals.add(usage)

    def line(self, label: str, text: str, style: Style) -> None:
        self._close()
        self._label(label)
        self._write(text, style)
        self._close(force=True)

    def _stream(self, label: str, text: str, style: Style) -> None:
        """Whitespace around a block is dropped: trailing whitespace is held until more text follows."""
        if self._open != style:
            self._close()
            text = text.lstrip()
        if not text:
            return
        if self._open is None:
            self._label(label)
            self._open = style
        text = self._held_back + text
        words = text.rstrip()
        self._held_back = text[len(words) :]
        self._write(words, style)

    def _label(self, label: str) -> None:
        self._write(f"{label:<{LABEL_WIDTH}}", Style(bold=True))

    def _write(self, text: str, style: Style) -> None:
        indented = text.replace("\n", "\n" + " " * LABEL_WIDTH)
        self._console.print(indented, style=style, end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._console.file.flush()

    def _close(self, *, force: bool = False) -> None:
        if self._open is not None or force:
            self._console.print()
        self._open, self._held_back = None, ""


def console_for_stdout() -> Console:
    """Colours on a terminal, plain lines anywhere else."""
    return Console(file=sys.stdout, force_terminal=sys.stdout.isatty())


def _call_text(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
