"""Made-up payloads of `llm:tokens` events: what the provider emits for each model call."""

from collections.abc import Mapping, Sequence
from typing import Any


def tokens_event(prompt: Sequence[int], sampled: Sequence[int], **fields: Any) -> dict[str, Any]:
    """The payload of a call that was given and sampled these ids."""
    defaults: Mapping[str, Any] = {
        "provider": "vllm",
        "instance": "vllm",
        "base_url": "http://localhost:8000/v1",
        "model": "tiny-qwen3",
        "request_id": "request-1",
        "call_index": 0,
        "logprobs": [-0.5] * len(sampled),
        "finish_reason": "stop",
        "endpoint": "chat",
        "response_id": None,
        "policy_version": None,
        "token_in": True,
        "segment": None,
        "sampling": {"temperature": 1.0},
        "usage": {"input_tokens": len(prompt), "output_tokens": len(sampled)},
        "content": [{"type": "text", "text": "Hello."}],
    }
    return {**defaults, "prompt_token_ids": list(prompt), "token_ids": list(sampled), **fields}


def tool_call(call_id: str, name: str = "get_weather", arguments: str = '{"city": "Paris"}') -> dict[str, str]:
    """The block of a call in an event's content."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
