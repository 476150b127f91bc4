"""The wire types of a chat completion, with the dialects of the servers that speak it; unknown fields are skipped."""

from typing import Any, ClassVar, Final, Literal

import msgspec

from .._reply_values import text_id, to_arguments
from .._turn import TokenLogprob

Kind = Literal["reasoning", "details", "text", "refusal"]
"""`details`: reasoning in a second form, which counts only if there is none in the first."""

TEXT_TYPES: Final = (None, "", "text", "output_text")


class Wire(msgspec.Struct, frozen=True, gc=False):
    """A wire type: a server may send null for any field with a default. The garbage collector skips it."""


class WireFunction(Wire, frozen=True):
    name: str | None = None
    arguments: Any = None
    """JSON as a string; some gateways send the object itself."""


class WireCall(Wire, frozen=True):
    function: WireFunction | None = None
    index: int | None = None
    id: str | int | None = None


class WirePart(Wire, frozen=True):
    """A part of the content or of the reasoning."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    summary: "str | list[WirePart] | None" = None
    thinking: "str | list[WirePart] | None" = None


class WireMessage(Wire, frozen=True):
    """A message, or its delta."""

    content: str | list[WirePart] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """vLLM up to 0.16, SGLang, llama.cpp, LiteLLM."""
    reasoning_details: list[WirePart] | None = None
    """OpenRouter."""
    thinking_blocks: list[WirePart] | None = None
    """LiteLLM."""
    refusal: str | None = None
    tool_calls: list[WireCall] | None = None
    function_call: WireFunction | None = None


class WireChoice(Wire, frozen=True):
    delta: WireMessage | None = None
    message: WireMessage | None = None
    index: int | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    """What the reply was stopped by: a stop string, or a token that is not the end token of the vocabulary."""
    logprobs: Any = None
    """Read leniently, as all that is beside the reply."""
    token_ids: list[int] | None = None
    error: Any = None


class WireChunk(Wire, frozen=True):
    choices: list[WireChoice] | None = None
    usage: Any = None
    """Read leniently: an odd count must not cost the reply."""
    id: str | int | None = None
    model: str | None = None
    prompt_token_ids: list[int] | None = None
    error: Any = None
    metadata: Any = None
    """SGLang tells the version of the weights here."""
    weight_versions: Any = None
    """vLLM's list of versions, and of the tokens that each has sampled, where it tells them."""


class WireLogprobs(Wire, frozen=True):
    """Log probabilities in vLLM's own shape."""

    content: list[TokenLogprob] | None = None


class TypedChoice(WireChoice, frozen=True):
    logprobs: WireLogprobs | None = None


class TypedChunk(WireChunk, frozen=True):
    """A chunk whose log probabilities have vLLM's own shape: they are decoded at once, in a third of the time."""

    choices: list[TypedChoice] | None = None  # type: ignore[assignment]  # a list that nobody changes


def policy_version(chunk: WireChunk) -> str | None:
    """The version of the weights that sampled the last tokens; None if the chunk does not tell it."""
    match chunk:
        case WireChunk(weight_versions=[*_, {"version": str() | int() as version}]):
            return str(version)
        case WireChunk(metadata={"weight_version": str() | int() as version}):
            return str(version)
        case _:
            return None


class TextDelta(Wire, frozen=True):
    kind: Kind
    text: str


class CallDelta(Wire, frozen=True):
    """A piece of a call, or a whole one."""

    kind: ClassVar[Literal["call"]] = "call"
    index: int | None
    call_id: str | None
    name: str
    arguments: str


Delta = TextDelta | CallDelta


def to_deltas(message: WireMessage) -> list[Delta]:
    """What a message adds, in the order in which a model writes: reasoning, text, calls."""
    deltas: list[Delta] = []
    reasoning = message.reasoning or message.reasoning_content
    if reasoning:
        deltas.append(TextDelta("reasoning", reasoning))
    elif message.reasoning_details or message.thinking_blocks:
        deltas += _details(message.reasoning_details or message.thinking_blocks or [])
    content = message.content
    if content:
        deltas += [TextDelta("text", content)] if isinstance(content, str) else map(_to_delta, content)
    if message.refusal:
        deltas.append(TextDelta("refusal", message.refusal))
    if message.tool_calls:
        deltas += map(_to_call, message.tool_calls)
    elif message.function_call is not None:
        deltas.append(_to_call(WireCall(message.function_call, index=0)))
    return deltas


def _details(parts: list[WirePart]) -> list[Delta]:
    """The readable reasoning; encrypted parts have none."""
    return [TextDelta("details", text) for part in parts if (text := _thought(part))]


def _to_delta(part: WirePart) -> Delta:
    if part.refusal is not None:
        return TextDelta("refusal", part.refusal)
    if part.type in ("thinking", "reasoning"):
        return TextDelta("reasoning", _thought(part))
    return TextDelta("text", part.text or "" if part.type in TEXT_TYPES else f"[{part.type}]")


def _thought(part: WirePart) -> str:
    thought = part.text or part.thinking or part.summary or ""
    return thought if isinstance(thought, str) else "".join(map(_thought, thought))


def _to_call(call: WireCall) -> CallDelta:
    function = call.function or WireFunction()
    return CallDelta(call.index, text_id(call.id) or None, function.name or "", to_arguments(function.arguments))
