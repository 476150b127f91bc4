"""Both adapters of Agent Lightning 0.3 find the ids of every call in the spans of our recorder."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from agentlightning.adapter import LlmProxyTraceToTriplet, TracerTraceToTriplet
from agentlightning.types import Triplet
from agentlightning.utils.otlp import spans_from_proto
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import set_tracer_provider

from amplifier_module_provider_vllm.rl import VLLMTokenRecorder
from tests.rl.readers.written import Line, Written, require

# What the adapters look for: the one by a pattern that its constructor takes, the other by a fixed name.
TRACER, PROXY = "chat {model}", "raw_gen_ai_request"


def read(written: Written) -> Iterator[str]:
    exporter = InMemorySpanExporter()
    # Spans that arrive over OTLP are filed by these two.
    resource = Resource.create({"agentlightning.rollout_id": "rollout", "agentlightning.attempt_id": "attempt"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer_provider(provider)
    heard = written.heard()
    for session, calls in heard.items():
        spans = _spans(exporter, provider, calls, TRACER)
        triplets = TracerTraceToTriplet(llm_call_match=r"^chat ").adapt(spans)
        require(
            [_with_logprobs(call) for call in calls],
            [_tracer(one) for one in triplets],
            f"TracerTraceToTriplet, {session}",
        )
        spans = _spans(exporter, provider, calls, PROXY)
        triplets = LlmProxyTraceToTriplet().adapt(asyncio.run(spans_from_proto(encode_spans(spans), _numbers)))
        require([_ids(call) for call in calls], [_proxy(one) for one in triplets], f"LlmProxyTraceToTriplet, {session}")
    calls_read = sum(map(len, heard.values()))
    yield f"{version('agentlightning')}: {calls_read} spans, the ids of all read"
    yield "by TracerTraceToTriplet with logprobs, by LlmProxyTraceToTriplet over OTLP"


def _spans(
    exporter: InMemorySpanExporter, provider: TracerProvider, calls: Sequence[Line], name: str
) -> list[ReadableSpan]:
    """One span for each call, below one of the application."""
    exporter.clear()
    recorder = VLLMTokenRecorder(span_name=name)
    with provider.get_tracer("application").start_as_current_span("session"):
        for call in calls:
            asyncio.run(recorder("llm:tokens", call))
    return list(exporter.get_finished_spans())


async def _numbers(pairs: Sequence[object]) -> list[int]:
    return list(range(len(pairs)))


def _ids(call: Line) -> tuple[object, object]:
    return call["prompt_token_ids"], call["token_ids"]


def _with_logprobs(call: Line) -> tuple[object, object, object]:
    return *_ids(call), call["logprobs"]


def _proxy(triplet: Triplet) -> tuple[object, object]:
    return triplet.prompt["token_ids"], triplet.response["token_ids"]


def _tracer(triplet: Triplet) -> tuple[object, object, object]:
    logprobs = triplet.response["logprobs"]
    entries = json.loads(logprobs) if isinstance(logprobs, str) else logprobs
    return *_proxy(triplet), [entry["logprob"] for entry in entries]
