"""A reply in vLLM's wire format, event by event, so that tests can break it anywhere."""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.replay import Reply, json_reply

REASONING_DELTAS = ("They ", "want ", "cities.")
ANSWER_DELTAS = ("Zürich, ", "東京, ", "and ", "Paris 🗼.")
REASONING_TEXT, ANSWER_TEXT = "".join(REASONING_DELTAS), "".join(ANSWER_DELTAS)

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html; charset=utf-8"}


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({**fields, "type": kind}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def text_delta(delta: str, output_index: int = 1) -> bytes:
    return event("response.output_text.delta", delta=delta, output_index=output_index, content_index=0)


def item_added(item: dict[str, Any], output_index: int) -> bytes:
    return event("response.output_item.added", item={**item, "content": None}, output_index=output_index)


def item_done(item: dict[str, Any], output_index: int) -> bytes:
    return event("response.output_item.done", item=item, output_index=output_index)


def reasoning_item(text: str = REASONING_TEXT) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def message_item(text: str = ANSWER_TEXT) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The response object: in a terminal event, or as the body of an unstreamed reply."""
    usage = {"input_tokens": 9, "output_tokens": 8, "total_tokens": 17}
    named = {"id": "resp_1", "object": "response", "model": "tiny-qwen3"}
    return {**named, "status": "completed", "output": list(output), "usage": usage, **fields}


OPENING = [event("response.created", response={"id": "resp_1"}), event("response.in_progress", response={})]
REASONING = [
    item_added(reasoning_item(""), 0),
    *(
        event("response.reasoning_text.delta", delta=piece, output_index=0, content_index=0)
        for piece in REASONING_DELTAS
    ),
    item_done(reasoning_item(), 0),
]
MESSAGE = [
    item_added(message_item(""), 1),
    *(text_delta(piece) for piece in ANSWER_DELTAS),
    item_done(message_item(), 1),
]
COMPLETED = event("response.completed", response=response(reasoning_item(), message_item()))

EVENTS: Sequence[bytes] = [*OPENING, *REASONING, *MESSAGE, COMPLETED]
"""The whole stream; each entry is one event with its blank line."""

LAST_DELTA_OFFSET = sum(map(len, EVENTS[:-3]))
"""The byte offset of the stream's last text delta."""

REPLY_BODY = json.dumps(response(reasoning_item(), message_item()), ensure_ascii=False).encode()


def sse_reply(*events: bytes, **shape: Any) -> Reply:
    return Reply(200, SSE, b"".join(events), **shape)


def whole_reply(body: bytes = REPLY_BODY, headers: dict[str, str] | None = None, **shape: Any) -> Reply:
    return Reply(200, JSON if headers is None else headers, body, **shape)


def page(status: int, html: str) -> Reply:
    return Reply(status, HTML, html.encode())


def refusal(status: int, message: str = "no", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return json_reply(status, {"error": {"message": message, "type": "Error", "param": None, "code": status}}, named)


HEALTHY = {True: sse_reply(*EVENTS), False: whole_reply()}
"""The correct reply, by whether it is streamed."""
