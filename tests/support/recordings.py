"""Requests to real vLLM servers and their raw responses, from the folder `recordings/`."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recordings"

# Headers of a single connection: the replay server writes its own.
_PER_CONNECTION = {"content-length", "transfer-encoding", "connection", "date"}


@dataclass(frozen=True)
class Recording:
    """One exchange: the request body, and the response's status, headers and body."""

    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes
    path: str
    """The path of the endpoint that was asked."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def with_body(self, body: bytes) -> "Recording":
        """The same exchange with another response body."""
        return replace(self, body=body)


@dataclass(frozen=True)
class BrokenStream:
    """The truncated stream of a dying server, and whether its body ended properly."""

    body: bytes
    ends_properly: bool
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream; charset=utf-8"})


def load_recording(group: str, case: str) -> Recording:
    """The exchange `case` of a set: `load_recording("chat/tiny-qwen3", "chat_answer_stream")`."""
    path, status, headers = _head((FOLDER / group / f"{case}.headers.txt").read_text())
    request = FOLDER / group / f"{case}.request.json"
    return Recording(_read_request(request), status, headers, _read_body(group, case), path)


def cases(group: str, pattern: str = "*") -> list[str]:
    """The names of the recorded cases of a set, sorted."""
    ending = ".headers.txt"
    return sorted(path.name.removesuffix(ending) for path in (FOLDER / group).glob(pattern + ending))


def load_broken_stream(name: str) -> BrokenStream:
    """The truncated /v1/responses stream `kill_engine`, `sigkill_server` or `sigterm_server`."""
    return BrokenStream(
        (FOLDER / "faults" / f"{name}_responses.sse").read_bytes(), ends_properly=name == "sigterm_server"
    )


def _read_request(path: Path) -> dict[str, Any]:
    try:
        request = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}  # a GET, or a body that was broken on purpose
    return request if isinstance(request, dict) else {}


def _read_body(group: str, case: str) -> bytes:
    found = sorted((FOLDER / group).glob(f"{case}.response.*"))
    return found[0].read_bytes() if found else b""


def _head(text: str) -> tuple[str, int, dict[str, str]]:
    """The file holds the request line, the status line and the headers; a line with `#` is a comment."""
    request, status, *rest = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [line.split(": ", 1) for line in rest if ": " in line]
    sent = {name: value for name, value in pairs if name.lower() not in _PER_CONNECTION}
    return request.split()[1], int(status.split()[1]), sent
