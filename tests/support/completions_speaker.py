"""A Speech in the format of /v1/completions: the raw text of Qwen3 with its markup, and its token ids."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

from amplifier_module_provider_vllm._config import EndpointName
from tests.support.chat_speaker import DONE, MODEL, SERVER, TRANSFERS, data, streamed_usage, whole_usage
from tests.support.replay import PROMPT_IDS
from tests.support.speech import Part, PartEvents, Speech, Stream

HEAD: Final = {"id": "cmpl-b3bf6eac20a14abb", "object": "text_completion", "created": 1795265894}
END_OF_TURN: Final = 4089
MARKUP_IDS: Final = {"<think>": 4090, "</think>": 4091, "<tool_call>": 4092, "</tool_call>": 4093}
TEXT_IDS: Final = 4088
"""Smaller ids are of ordinary text."""


class CompletionsSpeaker:
    endpoint: EndpointName = "completions"

    def stream(self, speech: Speech) -> Stream:
        parts = list(_markups(speech))
        # What a cap cut has its last piece in the chunk that says so.
        rest = parts[-1].deltas.pop() if speech.ending == "length" and parts else ""
        told = iter([prompt_ids(speech)])  # in the first chunk only
        events = [PartEvents(*([_chunk(piece, told) for piece in each] for each in part)) for part in parts]
        end = _chunk(rest, told, finish_reason=_finish_reason(speech))
        return Stream([], events, [end, _event([], usage=streamed_usage(speech), **SERVER), DONE])

    def body(self, speech: Speech) -> dict[str, Any]:
        pieces = _pieces(speech)
        ids = [*map(token_id, pieces), *([END_OF_TURN] if speech.ending == "complete" else [])]
        choice = {"index": 0, "text": "".join(pieces), "logprobs": None, "finish_reason": _finish_reason(speech)}
        told = {"stop_reason": None, "token_ids": ids, "prompt_logprobs": None, "prompt_token_ids": prompt_ids(speech)}
        usage = {"usage": whole_usage(speech, created_cache_tokens=None)}
        choices = [{**choice, **told, "routed_experts": None}]
        return {**HEAD, **MODEL, "choices": choices, "service_tier": None, **SERVER, **usage, **TRANSFERS}

    def error(self, error: object, **beside: object) -> list[bytes]:
        return [data({"error": error, **beside}), DONE]

    def last_event(self, data: bytes) -> bytes:
        return b"data: %b\n\n" % data


def token_id(piece: str) -> int:
    """A made-up id, the same for the same text."""
    return MARKUP_IDS.get(piece, crc32(piece.encode("utf-8", "surrogatepass")) % TEXT_IDS)


def prompt_ids(speech: Speech) -> tuple[int, ...]:
    """The ids of the prompt, and of the reply that this one goes on from."""
    earlier = () if speech.follows is None else map(token_id, _pieces(speech.follows))
    return (*PROMPT_IDS, *earlier)


class _Markup(NamedTuple):
    """The text of a part, in pieces."""

    before: list[str]
    deltas: list[str]
    after: list[str]


def _pieces(speech: Speech) -> list[str]:
    return [piece for part in _markups(speech) for each in part for piece in each]


def _markups(speech: Speech) -> Iterator[_Markup]:
    """Each part as it is written; calls have a line break between them."""
    for place, part in enumerate(speech.parts):
        markup = _markup(part, speech.is_cut(part))
        follows_call = place > 0 and part.kind == speech.parts[place - 1].kind == "call"
        yield markup._replace(before=["\n", *markup.before]) if follows_call else markup


def _markup(part: Part, is_cut: bool) -> _Markup:
    match part.kind:
        case "text":
            return _Markup([], list(part.pieces), [])
        case "reasoning":
            return _Markup(["<think>"], list(part.pieces), [] if is_cut else ["</think>"])
        case "call":
            named = f'{{"name": "{part.name}", "arguments": '
            after = [] if is_cut else ["}", "\n", "</tool_call>"]
            return _Markup(["<tool_call>", "\n", named], list(part.pieces), after)


def _chunk(text: str, told: Iterator[tuple[int, ...]], finish_reason: str | None = None) -> bytes:
    ids = [END_OF_TURN] if finish_reason == "stop" else [token_id(text)]
    ends = {"logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
    return _event([{"index": 0, "text": text, **ends, "prompt_token_ids": next(told, None), "token_ids": ids}])


def _event(choices: list[dict[str, Any]], **fields: Any) -> bytes:
    return data({**HEAD, **MODEL, "choices": choices, **fields})


def _finish_reason(speech: Speech) -> str:
    return "stop" if speech.ending == "complete" else speech.ending
