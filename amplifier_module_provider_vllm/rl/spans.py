"""Put a model call into an OpenTelemetry span, if the OpenTelemetry API is installed and somebody records."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

try:
    import opentelemetry.trace as trace

    INSTALLED = True
except ImportError:  # it is in the extra `otel`
    INSTALLED = False

Attribute: TypeAlias = str | int | float | list[int] | list[str]
Event: TypeAlias = Mapping[str, Any]

TRACER: Final = "amplifier_module_provider_vllm"

REQUEST_ATTRIBUTES: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
USAGE_ATTRIBUTES: Final = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


def record_in_span(event: Event, span_name: str | None = None) -> None:
    """Put the payload of an `llm:tokens` event into the current span if it records, else into a span of its own.

    With a name it is always a span of its own, a child of the current one: one for each call. `{model}` stands for the
    model.
    """
    if not INSTALLED:
        return
    current = trace.get_current_span()
    if span_name is None and current.is_recording():
        current.set_attributes(span_attributes(event))
        return
    name = (span_name or "chat {model}").replace("{model}", str(event.get("model", "")))
    with trace.get_tracer(TRACER).start_as_current_span(name, kind=trace.SpanKind.CLIENT) as span:
        if span.is_recording():
            span.set_attributes(span_attributes(event))


def span_attributes(event: Event) -> dict[str, Attribute]:
    """The GenAI conventions' attributes, those of Agent Lightning's adapters, and the documented four."""
    return {key: value for key, value in _attributes(event) if value is not None}


def _attributes(event: Event) -> Iterator[tuple[str, Attribute | None]]:
    model, reason = event.get("model"), event.get("finish_reason")
    yield "gen_ai.operation.name", "chat"
    yield "gen_ai.provider.name", "vllm"
    yield "gen_ai.request.model", model
    yield "gen_ai.response.model", model
    yield "gen_ai.response.id", _response_id(event)
    yield "gen_ai.response.finish_reasons", None if reason is None else [reason]
    yield "gen_ai.conversation.id", event.get("session_id")
    sampling, usage = event.get("sampling") or {}, event.get("usage") or {}
    yield from ((attribute, sampling.get(key)) for key, attribute in REQUEST_ATTRIBUTES.items())
    yield "gen_ai.request.stop_sequences", _stops(sampling.get("stop"))
    yield from ((attribute, usage.get(key)) for key, attribute in USAGE_ATTRIBUTES.items())
    yield from _token_attributes(list(event["prompt_token_ids"]), list(event["token_ids"]), event.get("logprobs"))


def _token_attributes(
    prompt: list[int], sampled: list[int], logprobs: list[float] | None
) -> Iterator[tuple[str, Attribute | None]]:
    yield "llm.token_count.prompt", len(prompt)
    yield "llm.token_count.completion", len(sampled)
    yield "llm.hosted_vllm.prompt_token_ids", prompt
    yield "llm.hosted_vllm.response_token_ids", sampled
    # Agent Lightning 0.3: LlmProxyTraceToTriplet reads the response in `choices`, TracerTraceToTriplet the rest.
    yield "llm.hosted_vllm.choices", json.dumps([{"token_ids": sampled}])
    yield "prompt_token_ids", prompt
    yield "response_token_ids", sampled
    if logprobs is not None:
        entries = [{"token_id": token, "logprob": logprob} for token, logprob in zip(sampled, logprobs, strict=True)]
        yield "logprobs.content", json.dumps(entries)


def _response_id(event: Event) -> str:
    """Unique for each call: readers drop a span whose id they have seen."""
    return event.get("response_id") or f"{event.get('request_id')}-{event.get('call_index', 0)}"


def _stops(stop: str | list[str] | None) -> list[str] | None:
    return [stop] if isinstance(stop, str) else stop
