"""A Speech in the format of /v1/responses, and the answer about cities in it, event by event."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.replay import Reply, json_reply
from tests.support.speech import ANSWER_TEXT, CITIES_ANSWER, REASONING_TEXT, Part, PartEvents, Speech, Stream

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html; charset=utf-8"}


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({**fields, "type": kind}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def text_delta(delta: str, output_index: int = 1) -> bytes:
    return _delta("output_text", delta, output_index)


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


class ResponsesSpeaker:
    endpoint: EndpointName = "responses"

    def stream(self, speech: Speech) -> Stream:
        opening = [event("response.created", response={"id": "resp_1"}), event("response.in_progress", response={})]
        parts = [_part_events(part, index) for index, part in enumerate(speech.parts)]
        return Stream(opening, parts, [event("response.completed", response=self.body(speech))])

    def body(self, speech: Speech) -> dict[str, Any]:
        fields: dict[str, Any] = {"usage": _usage(speech)}
        if speech.ending == "length":
            fields |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        return response(*map(_item, speech.parts), **fields)

    def error(self, error: object, **beside: object) -> list[bytes]:
        return [event("error", error=error, **beside)]

    def last_event(self, data: bytes) -> bytes:
        return b"event: response.completed\ndata: %b\n\n" % data


def _part_events(part: Part, index: int) -> PartEvents:
    deltas = [_delta(_DELTAS[part.kind], piece, index) for piece in part.pieces]
    return PartEvents([item_added(_item(replace(part, pieces=())), index)], deltas, [item_done(_item(part), index)])


_DELTAS: Final = {"reasoning": "reasoning_text", "text": "output_text", "call": "function_call_arguments"}


def _delta(kind: str, delta: str, output_index: int) -> bytes:
    place = {} if kind == _DELTAS["call"] else {"content_index": 0}
    return event(f"response.{kind}.delta", delta=delta, output_index=output_index, **place)


def _item(part: Part) -> dict[str, Any]:
    match part.kind:
        case "reasoning":
            return reasoning_item(part.text)
        case "text":
            return message_item(part.text)
        case "call":
            named = {"call_id": part.call_id, "name": part.name, "arguments": part.text}
            return {"type": "function_call", "id": "fc_1", "status": "completed", **named}


def _usage(speech: Speech) -> dict[str, Any]:
    counts = {"input_tokens": speech.input_tokens, "output_tokens": speech.output_tokens}
    usage: dict[str, Any] = counts | {"total_tokens": sum(counts.values())}
    if speech.cached_tokens is not None:
        usage["input_tokens_details"] = {"cached_tokens": speech.cached_tokens}
    if speech.reasoning_tokens is not None:
        usage["output_tokens_details"] = {"reasoning_tokens": speech.reasoning_tokens}
    return usage


_CITIES: Final = ResponsesSpeaker().stream(CITIES_ANSWER)
OPENING = _CITIES.opening
REASONING, MESSAGE = (part.events for part in _CITIES.parts)
(COMPLETED,) = _CITIES.ending

EVENTS: Sequence[bytes] = _CITIES.events
"""The whole stream; each entry is one event with its blank line."""

REPLY_BODY = json.dumps(ResponsesSpeaker().body(CITIES_ANSWER), ensure_ascii=False).encode()


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
