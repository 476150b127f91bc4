"""A recorded reply of /v1/chat/completions, scaled, and the same tokens as /v1/completions sends them."""

import json
import re
from functools import cache
from itertools import chain, cycle, groupby, islice, repeat
from typing import Any, Final

from bench.recorded_stream import RecordedStream
from tests.support.recordings import load_recording

QWEN: Final = "tiny-qwen3"
REPLY: Final = "chat_answer_stream"
USAGE: Final = "chat_usage_continuous_token_ids_stream"
DONE: Final = b"data: [DONE]\n\n"

MARKUP: Final = {
    4090: "<think>",
    4091: "</think>",
    200005: "<|channel|>",
    35644: "analysis",
    200008: "<|message|>",
    200007: "<|end|>",
    200006: "<|start|>",
    173781: "assistant",
    17196: "final",
}
"""The text of the tokens that chat leaves out, by their ids in the vocabularies of both models."""

LOGPROB: Final = -0.00035398892941884696

PROMPT: Final = re.compile(rb'("prompt_token_ids":)(\[[^\]]*\])')

Json = dict[str, Any]


@cache
def scale_chat(tokens: int, model: str = QWEN, *, ids: bool = True, logprobs: bool = False) -> RecordedStream:
    """The recording with about this many tokens of text, its reasoning and its answer in their recorded proportions.

    Without ids vLLM sends no chunk for a token of markup. A reply of one token has no reasoning.
    """
    chunks = _scaled(tokens, model)
    if logprobs:
        chunks = [_with_logprob(chunk) for chunk in chunks]
    return _stream(chunks, chunks if ids else [_without_ids(chunk) for chunk in chunks if not _is_markup(chunk)])


@cache
def scale_completions(tokens: int, model: str = QWEN) -> RecordedStream:
    """The same tokens, with their ids and the text of all markup."""
    role, *chunks = _scaled(tokens, model)
    prompts = chain([role["prompt_token_ids"]], repeat(None))
    return _stream(chunks, list(map(_to_text_chunk, chunks, prompts)))


def usage_event(stream: RecordedStream) -> bytes:
    """The chunk before the end of a stream, for a client that asks for it."""
    recorded = _parse(load_recording("chat/tiny-qwen3", USAGE).body.split(b"\n\n")[-3])
    return _render(_parse(stream.events[0]) | {"choices": [], "usage": recorded["usage"]})


def with_prompt(event: bytes, length: int) -> bytes:
    """The first chunk of a stream, or a whole reply, with a prompt of this many token ids."""
    return PROMPT.sub(lambda found: found[1] + _json([*islice(cycle(json.loads(found[2])), length)]), event, count=1)


def _stream(chunks: list[Json], sent: list[Json]) -> RecordedStream:
    """The chunks as they are sent, at either endpoint; the others are those of the chat."""
    tokens = sum(_kind(chunk) in ("reasoning", "content") for chunk in chunks)
    answer = "".join(_delta(chunk).get("content", "") for chunk in chunks)
    raw = "".join(one["choices"][0].get("text", "") for one in sent)
    return RecordedStream((*map(_render, sent), DONE), tokens, answer, raw)


def _scaled(tokens: int, model: str) -> list[Json]:
    body = load_recording(f"chat/{model}", REPLY).body
    recorded = [_parse(event) for event in body.removesuffix(DONE).split(b"\n\n") if event]
    factor = tokens / sum(_kind(chunk) in ("reasoning", "content") for chunk in recorded)
    return [chunk for kind, run in groupby(recorded, _kind) for chunk in _longer(kind, list(run), tokens, factor)]


def _longer(kind: str, run: list[Json], tokens: int, factor: float) -> list[Json]:
    if kind == "markup":
        return run
    if tokens == 1:
        return [] if kind == "reasoning" else [chunk for chunk in run if _delta(chunk)["content"].strip()][:1]
    return list(islice(cycle(run), max(1, round(len(run) * factor))))


def _to_text_chunk(chunk: Json, prompt: list[int] | None) -> Json:
    """A chat chunk as /v1/completions sends it."""
    (choice,) = chunk["choices"]
    ids = choice["token_ids"]
    text = _text_of(chunk, ids[0])
    ends = {key: choice.get(key) for key in ("logprobs", "finish_reason", "stop_reason")}
    told = {"index": 0, "text": text, **ends, "prompt_token_ids": prompt, "token_ids": ids}
    return {**chunk, "id": "cmpl-b3bf6eac20a14abb", "object": "text_completion", "choices": [told]}


def _with_logprob(chunk: Json) -> Json:
    """The chunk with the log probability of its token, as vLLM writes it."""
    (choice,) = chunk["choices"]
    texts = [_text_of(chunk, one) for one in choice.get("token_ids") or ()]
    entries = [{"token": text, "logprob": LOGPROB, "bytes": [*text.encode()], "top_logprobs": []} for text in texts]
    return chunk | {"choices": [choice | {"logprobs": {"content": entries}}]} if entries else chunk


def _text_of(chunk: Json, token: int) -> str:
    text: str = _delta(chunk).get("reasoning") or _delta(chunk).get("content") or MARKUP.get(token, "")
    return text


def _without_ids(chunk: Json) -> Json:
    (choice,) = chunk["choices"]
    if "prompt_token_ids" in chunk:
        return chunk | {"prompt_token_ids": None}
    return chunk | {"choices": [choice | {"token_ids": None}]}


def _kind(chunk: Json) -> str:
    """Which text a chunk brings: that of one token, or none."""
    return next((kind for kind in ("reasoning", "content") if _delta(chunk).get(kind)), "markup")


def _is_markup(chunk: Json) -> bool:
    return _delta(chunk) == {} and chunk["choices"][0]["finish_reason"] is None


def _delta(chunk: Json) -> Json:
    delta: Json = chunk["choices"][0]["delta"]
    return delta


def _parse(event: bytes) -> Json:
    chunk: Json = json.loads(event.removeprefix(b"data: "))
    return chunk


def _render(chunk: Json) -> bytes:
    return b"data: %b\n\n" % _json(chunk)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
