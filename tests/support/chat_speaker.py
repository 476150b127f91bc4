"""A Speech in the format of /v1/chat/completions, as vLLM sends it with the parsers of Qwen3."""

import json
from itertools import chain
from typing import Any, Final

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.speech import Part, PartEvents, Speech, Stream

DONE: Final = b"data: [DONE]\n\n"
HEAD: Final = {"id": "chatcmpl-8ad6fad3cbc958e3", "object": "chat.completion", "created": 1795264241}
MODEL: Final = {"model": "tiny-qwen3"}
SERVER: Final = {"system_fingerprint": "vllm-0.32.0-51810270"}
UNUSED: Final = dict.fromkeys(["refusal", "annotations", "audio", "function_call"])
UNASKED: Final = dict.fromkeys(["prompt_logprobs", "prompt_token_ids", "prompt_text"])
TRANSFERS: Final = dict.fromkeys(["kv_transfer_params", "ec_transfer_params", "metrics"])


class ChatSpeaker:
    endpoint: EndpointName = "chat"

    def stream(self, speech: Speech) -> Stream:
        role = _choice({"role": "assistant", "content": ""})
        opening = [_chunk([role], prompt_token_ids=None, prompt_text=None)]
        deltas = [_deltas(part, speech) for part in speech.parts]
        # What a cap cut has its last piece in the chunk that says so.
        rest = deltas[-1].pop() if speech.ending == "length" and deltas else {}
        end = _choice(rest, finish_reason=_finish_reason(speech), stop_reason=None, token_ids=None)
        parts = [PartEvents([], [delta_chunk(**delta) for delta in part], []) for part in deltas]
        return Stream(
            opening,
            parts,
            [_chunk([end]), _chunk([], usage=streamed_usage(speech, created_cache_tokens=0), **SERVER), DONE],
        )

    def body(self, speech: Speech) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": _content(speech), **UNUSED}
        if speech.calls and not speech.ends_in_cut_call:
            message["tool_calls"] = [_whole_call(part) for part in speech.calls]
        message["reasoning"] = speech.texts("reasoning") or None
        told = {"logprobs": None, "finish_reason": _finish_reason(speech), "stop_reason": None, "token_ids": None}
        choice = {"index": 0, "message": message, **told, "routed_experts": None}
        usage = {"usage": whole_usage(speech, created_cache_tokens=0)}
        return {**HEAD, **MODEL, "choices": [choice], "service_tier": None, **SERVER, **usage, **UNASKED, **TRANSFERS}

    def error(self, error: object, **beside: object) -> list[bytes]:
        return [data({"error": error, **beside}), DONE]

    def last_event(self, data: bytes) -> bytes:
        return b"data: %b\n\n" % data


def data(value: object) -> bytes:
    return f"data: {compact_json(value)}\n\n".encode()


def compact_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def delta_chunk(**delta: Any) -> bytes:
    return _chunk([_choice(delta, token_ids=None)])


def streamed_usage(speech: Speech, **created: int) -> dict[str, Any]:
    """The counts of a stream: what the server does not count is left out."""
    usage = _counts(speech)
    if speech.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": speech.cached_tokens, **created}
    if speech.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": speech.reasoning_tokens}
    return usage


def whole_usage(speech: Speech, created_cache_tokens: int | None) -> dict[str, Any]:
    """The counts of an unstreamed reply: what the server does not count is null."""
    usage = dict.fromkeys(["prompt_tokens_details", "completion_tokens_details"]) | streamed_usage(speech)
    if cached := usage["prompt_tokens_details"]:
        cached |= {"created_cache_tokens": created_cache_tokens, "multimodal_tokens": None}
    return usage


def _chunk(choices: list[dict[str, Any]], **fields: Any) -> bytes:
    return data({**HEAD, "object": "chat.completion.chunk", **MODEL, "choices": choices, **fields})


def _choice(delta: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **fields}


def _deltas(part: Part, speech: Speech) -> list[dict[str, Any]]:
    match part.kind:
        case "reasoning":
            return [{"reasoning": piece} for piece in part.pieces]
        case "text":
            return [{"content": piece} for piece in part.pieces]
        case "call":
            index = speech.calls.index(part)
            named = {"id": part.call_id, "type": "function", "index": index, "function": {"name": part.name}}
            pieces = [{"index": index, "function": {"arguments": piece}} for piece in part.pieces]
            return [{"content": None, "tool_calls": [call]} for call in chain([named], pieces)]


def _content(speech: Speech) -> str | None:
    """The text; where a call was cut, all calls stand in it as their markup."""
    calls = speech.calls if speech.ends_in_cut_call else ()
    markup = [_call_markup(part) + ("" if speech.is_cut(part) else "}\n</tool_call>") for part in calls]
    return speech.texts("text") + "\n".join(markup) or None


def _call_markup(part: Part) -> str:
    """A call as Qwen3 writes it, up to where it was cut."""
    return f'<tool_call>\n{{"name": "{part.name}", "arguments": {part.text}'


def _whole_call(part: Part) -> dict[str, Any]:
    return {"id": part.call_id, "type": "function", "function": {"name": part.name, "arguments": part.text}}


def _finish_reason(speech: Speech) -> str:
    if speech.ending != "complete":
        return speech.ending
    return "tool_calls" if speech.calls else "stop"


def _counts(speech: Speech) -> dict[str, Any]:
    prompt, sampled = speech.input_tokens, speech.output_tokens
    return {"prompt_tokens": prompt, "total_tokens": prompt + sampled, "completion_tokens": sampled}
