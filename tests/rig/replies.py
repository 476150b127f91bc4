"""A model's reply as the server wrote it, at any endpoint: its body, and what the tests read of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

PATHS: Final = {
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
}
REPLIES: Final = ("response", "chat.completion", "text_completion")
"""The values of `object` in a reply."""

REASONING_END: Final = re.compile(r"</think>|<\|message\|>")
"""Raw output: before the text of Qwen3, and before each message of gpt-oss."""


@dataclass(frozen=True)
class Counts:
    """The server's token counts. None: not told."""

    input: int
    output: int
    reasoning: int | None
    cached: int | None


@dataclass(frozen=True, order=True)
class Tokens:
    """The tokens of a reply, where they were asked for."""

    prompt: tuple[int, ...]
    sampled: tuple[int, ...]
    logprobs: tuple[float, ...]


def final_reply(body: bytes) -> dict[str, Any]:
    """The unstreamed reply, or a streamed one in the same form: as its last event tells it, or of its chunks."""
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    if not lines:
        whole: dict[str, Any] = json.loads(body)
        return whole
    if lines[-1] != b"[DONE]":
        response: dict[str, Any] = json.loads(lines[-1])["response"]
        return response
    return _joined([json.loads(line) for line in lines[:-1]])


def text_of(reply: dict[str, Any]) -> str:
    """The text, without the reasoning."""
    match reply:
        case {"choices": [{"message": {"content": text}}]}:
            return text or ""
        case {"choices": [{"text": str(text)}]}:
            return REASONING_END.split(text)[-1]
        case _:
            messages = [item for item in reply["output"] if item["type"] == "message"]
            return "".join(part["text"] for item in messages for part in item["content"])


def call_ids_of(reply: dict[str, Any]) -> list[str]:
    match reply:
        case {"choices": [{"message": message}]}:
            return [call["id"] for call in message.get("tool_calls") or []]
        case _:
            return [item["call_id"] for item in reply["output"] if item["type"] == "function_call"]


def is_cut(reply: dict[str, Any]) -> bool:
    match reply:
        case {"choices": [{"finish_reason": reason}]}:
            return bool(reason == "length")
        case _:
            return bool(reply["status"] != "completed")


def counts_of(reply: dict[str, Any]) -> Counts:
    usage = reply["usage"]
    kind = "input" if "input_tokens" in usage else "prompt"
    output = "output" if kind == "input" else "completion"
    reasoned, cached = usage.get(f"{output}_tokens_details") or {}, usage.get(f"{kind}_tokens_details") or {}
    return Counts(
        input=usage[f"{kind}_tokens"],
        output=usage[f"{output}_tokens"],
        reasoning=reasoned.get("reasoning_tokens"),
        cached=cached.get("cached_tokens"),
    )


def tokens_of(reply: dict[str, Any]) -> Tokens:
    """What the server says the model read, and what it sampled."""
    (choice,) = reply["choices"]
    prompt = reply.get("prompt_token_ids") or choice["prompt_token_ids"]
    return Tokens(tuple(prompt), tuple(choice["token_ids"]), tuple(_logprobs(choice)))


def _logprobs(choice: dict[str, Any]) -> list[float]:
    match choice.get("logprobs"):
        case {"content": list(entries)}:
            return [entry["logprob"] for entry in entries]
        case {"token_logprobs": list(logprobs)}:
            return logprobs
        case _:
            return []


def _joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The reply of which these are the chunks."""
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    deltas = [choice["delta"] for choice in choices if "delta" in choice]
    said: dict[str, Any] = {"text": "".join(choice.get("text") or "" for choice in choices)}
    if deltas:
        content = "".join(delta.get("content") or "" for delta in deltas)
        said = {"message": {"content": content, "tool_calls": list(_begun_calls(deltas))}}
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    if not reasons:
        return chunks[-1]  # the error that ended it
    usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    kind = chunks[0]["object"].removesuffix(".chunk")
    choice = {**said, **_joined_tokens(choices), "finish_reason": reasons[-1]}
    told = {key: chunks[0][key] for key in ("prompt_token_ids",) if key in chunks[0]}
    return {"object": kind, "choices": [choice], "usage": usage[-1] if usage else None, **told}


def _joined_tokens(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """In the shape of /v1/completions, which has one list of logprobs."""
    return {
        "prompt_token_ids": next((ids for choice in choices if (ids := choice.get("prompt_token_ids"))), None),
        "token_ids": [one for choice in choices for one in choice.get("token_ids") or ()],
        "logprobs": {"token_logprobs": [one for choice in choices for one in _logprobs(choice)]},
    }


def _begun_calls(deltas: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for delta in deltas:
        yield from (call for call in delta.get("tool_calls") or () if call.get("id"))
