"""Synthetic unstreamed replies, built from items."""

from typing import Any

from tests.support.replay import Reply, json_reply


def reasoning_item(text: str) -> dict[str, Any]:
    part = {"type": "reasoning_text", "text": text}
    return {"type": "reasoning", "id": "rs", "summary": [], "content": [part]}


def message_item(text: str) -> dict[str, Any]:
    return {"type": "message", "id": "msg", "content": [{"type": "output_text", "text": text}]}


def call_item(arguments: str, name: str = "get_weather", call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call", "id": "fc", "call_id": call_id, "name": name, "arguments": arguments}


def full_reply(*output: dict[str, Any], response_id: str = "resp_1", **fields: Any) -> Reply:
    """A complete reply with 100 input tokens and 10 output tokens."""
    usage = {"input_tokens": 100, "output_tokens": 10}
    body = {"id": response_id, "status": "completed", "output": output, "usage": usage}
    return json_reply(200, body | fields)


def cut_reply(*output: dict[str, Any], reason: str = "max_output_tokens", **fields: Any) -> Reply:
    """An incomplete reply."""
    return full_reply(*output, status="incomplete", incomplete_details={"reason": reason}, **fields)
