"""What recorded replies of chat/completions and completions say, read from their bytes without the provider."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from amplifier_core.llm_errors import ContextLengthError, InvalidRequestError, NotFoundError, ProviderUnavailableError
from amplifier_core.message_models import (
    ChatRequest,
    ChatResponse,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolSpec,
)

from tests.support.recordings import Recording, cases, load_recording

GROUPS = ("tiny-qwen3", "tiny-gpt-oss", "tiny-qwen3-flags", "tiny-gpt-oss-faults")

Part = tuple[str, ...]
"""("thinking", text), ("text", text) or ("tool_call", name, arguments)."""

NOTICE = "[The reply was cut off in a call of {}.]"
"""What stands in place of a call that the output cap cut."""


@dataclass(frozen=True)
class RecordedReply:
    parts: list[Part]
    finish_reason: str
    usage: dict[str, Any] | None
    cap: int | None
    """The output cap of the request."""
    logprobs: list[dict[str, Any]]
    """One entry for each sampled token, if they were asked for."""

    @property
    def is_cut(self) -> bool:
        """Whether the cap cut it. For gpt-oss vLLM 0.32 says `tool_calls` of a cut call that is not streamed."""
        full = self.cap is not None and self.usage is not None and self.usage["completion_tokens"] >= self.cap
        return self.finish_reason == "length" or (full and self._ends_in_call and not _is_object(self.parts[-1][2]))

    @property
    def ends_in_cut_call(self) -> bool:
        return self.is_cut and self._ends_in_call

    @property
    def _ends_in_call(self) -> bool:
        return bool(self.parts) and self.parts[-1][0] == "tool_call"


def exchanges(path: str) -> list[tuple[str, Recording]]:
    """Every recorded exchange with an endpoint, and its name."""
    named = [(group, case) for group in GROUPS for case in cases(f"chat/{group}")]
    recordings = [(f"{group}/{case}", load_recording(f"chat/{group}", case)) for group, case in named]
    return [(name, recording) for name, recording in recordings if recording.path == path]


def is_harmony(name: str) -> bool:
    return name.startswith("tiny-gpt-oss")


def recorded_error(recording: Recording) -> dict[str, Any] | None:
    """The error of an exchange, with its code, whatever the HTTP status; None for a reply."""
    return next((body["error"] for body in _bodies(recording) if "error" in body), None)


def error_class(error: dict[str, Any], path: str) -> type[Exception]:
    # At /v1/completions a prompt that fills the window leaves no token to sample; we never send a cap below 1.
    is_full = path == "/v1/completions" and "must be at least 1, got 0" in error["message"]
    match error["code"]:
        case 400 if is_full or "maximum context length" in error["message"]:
            return ContextLengthError
        case 400:
            return InvalidRequestError
        case 404:
            return NotFoundError
        case _:
            return ProviderUnavailableError


def recorded_reply(recording: Recording) -> RecordedReply:
    bodies = list(_bodies(recording))
    choices = [choice for body in bodies for choice in body["choices"] if choice["index"] == 0]
    asked = recording.request
    return RecordedReply(
        parts=list(_joined(piece for choice in choices for piece in _pieces(choice))),
        finish_reason=next(choice["finish_reason"] for choice in reversed(choices) if choice["finish_reason"]),
        usage=next((body["usage"] for body in reversed(bodies) if body.get("usage")), None),
        cap=asked.get("max_completion_tokens") or asked.get("max_tokens"),
        logprobs=[entry for choice in choices for entry in (choice.get("logprobs") or {}).get("content") or []],
    )


def request_of(body: dict[str, Any]) -> ChatRequest:
    """What of a recorded request decides how its reply is read: the tools, the cap, the stop strings."""
    functions = [tool["function"] for tool in body.get("tools") or []]
    tools = [ToolSpec(name=one["name"], parameters=one.get("parameters") or {}) for one in functions]
    stop = body.get("stop") or None
    return ChatRequest(
        messages=[Message(role="user", content="Hello")],
        tools=tools or None,
        tool_choice="none" if body.get("tool_choice") == "none" else None,
        max_output_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or None,
        stop=[stop] if isinstance(stop, str) else stop,
    )


def session_parts(reply: RecordedReply, stop: list[str], *, harmony: bool) -> list[Part]:
    """The parts as a session gets them: without blank ones, control tokens and stop strings, cut calls named."""
    parts = reply.parts
    if reply.ends_in_cut_call:
        parts = [*parts[:-1], ("text", NOTICE.format(parts[-1][1]))]
    if harmony:
        parts = [part if part[0] == "tool_call" else (part[0], _visible(part[1], stop)) for part in parts]
    return [part for part in parts if part[0] == "tool_call" or part[1].strip()]


def is_refused(parts: list[Part], request: ChatRequest) -> bool:
    """Whether a call is of no tool of the request, or its arguments are no JSON object."""
    names = {tool.name for tool in request.tools or []}
    return any(part[0] == "tool_call" and (part[1] not in names or not _is_object(part[2])) for part in parts)


def parts_of(response: ChatResponse) -> list[Part]:
    return [_part(block) for block in response.content]


def in_one_spelling(parts: list[Part]) -> list[Part]:
    """The parts with the arguments of calls as Python writes JSON."""
    return [(*part[:2], json.dumps(json.loads(part[2]))) if part[0] == "tool_call" else part for part in parts]


def _part(block: object) -> Part:
    match block:
        case ThinkingBlock(thinking=text):
            return "thinking", text
        case TextBlock(text=text):
            return "text", text
        case ToolCallBlock(name=name, input=arguments):
            return "tool_call", name, json.dumps(arguments)
        case _:
            raise AssertionError(f"a reply has no such block: {block!r}")


def _visible(text: str, stop: list[str]) -> str:
    """vLLM reads gpt-oss from token ids: a header that the cap cut, and a stop string, stay in the text."""
    before_header = re.split(r"<\|start\|>|<\|channel\|>", text)[0]
    bare = re.sub(r"<\|\w+\|>", "", before_header)
    return re.split("|".join(map(re.escape, stop)), bare)[0] if stop else bare


def _bodies(recording: Recording) -> Iterator[dict[str, Any]]:
    if not recording.is_stream:
        yield recording.json
        return
    for line in recording.body.decode().split("\n"):
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def _pieces(choice: dict[str, Any]) -> Iterator[tuple[object, Part]]:
    """Each piece with a key: neighbours with the same key belong together."""
    message = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
    if message.get("reasoning"):
        yield "thinking", ("thinking", message["reasoning"])
    if message.get("content"):
        yield "text", ("text", message["content"])
    for number, call in enumerate(message.get("tool_calls") or []):
        function = call["function"]
        yield call.get("index", number), ("tool_call", function.get("name") or "", function.get("arguments") or "")


def _joined(pieces: Iterator[tuple[object, Part]]) -> Iterator[Part]:
    for _key, group in groupby(pieces, key=lambda piece: piece[0]):
        parts = [part for _key, part in group]
        yield (parts[0][0], *map("".join, zip(*(part[1:] for part in parts), strict=True)))


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
