"""Agent Lightning 0.3 reads our spans: run in an environment that has agentlightning 0.3, with its two adapters.

Python below 3.12. `TracerTraceToTriplet` reads spans as the process has them, `LlmProxyTraceToTriplet` as they arrive
at the store, by OTLP.
"""

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from agentlightning.adapter import LlmProxyTraceToTriplet, TracerTraceToTriplet
from agentlightning.utils.otlp import spans_from_proto
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SPANS = Path(__file__).parents[2] / "amplifier_module_provider_vllm" / "rl" / "spans.py"

CALLS = [([1, 2, 3], [4, 5]), ([1, 2, 3, 4, 5, 6], [7])]
"""What each call was given, and what it sampled."""


def main() -> None:
    in_process = TracerTraceToTriplet(llm_call_match=r"^chat ").adapt(list(_spans(None)))
    by_otlp = LlmProxyTraceToTriplet().adapt(_received(_spans("raw_gen_ai_request")))

    for adapter, triplets in (("TracerTraceToTriplet", in_process), ("LlmProxyTraceToTriplet", by_otlp)):
        read = [(list(one.prompt["token_ids"]), list(one.response["token_ids"])) for one in triplets]
        assert read == CALLS, (adapter, read)
        print(f"{adapter}: {len(read)} calls")
    logprobs = [[entry["logprob"] for entry in one.response["logprobs"]] for one in in_process]
    assert logprobs == [[-0.5, -0.5], [-0.5]], logprobs


def _spans(name: str | None) -> Sequence[ReadableSpan]:
    """The spans of a rollout with these calls."""
    exporter = InMemorySpanExporter()
    rollout = {"agentlightning.rollout_id": "rollout-1", "agentlightning.attempt_id": "attempt-1"}
    provider = TracerProvider(resource=Resource.create(rollout))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = _module_of_spans()
    spans.trace.get_tracer = provider.get_tracer  # OpenTelemetry's own provider can be set only once
    with provider.get_tracer("application").start_as_current_span("rollout"):
        for index, (prompt, sampled) in enumerate(CALLS):
            event = {"model": "tiny-qwen3", "request_id": "request-1", "call_index": index}
            ids = {"prompt_token_ids": prompt, "token_ids": sampled, "logprobs": [-0.5] * len(sampled)}
            spans.record_in_span(event | ids, name or "chat {model}")
    return exporter.get_finished_spans()


def _module_of_spans() -> ModuleType:
    """Our module alone: Agent Lightning 0.3 and Amplifier need not be in one environment."""
    spec = importlib.util.spec_from_file_location("spans", SPANS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _received(spans: Sequence[ReadableSpan]) -> list[Any]:
    async def numbers(pairs: Sequence[object]) -> list[int]:
        return list(range(len(pairs)))

    return asyncio.run(spans_from_proto(encode_spans(spans), numbers))


if __name__ == "__main__":
    main()
