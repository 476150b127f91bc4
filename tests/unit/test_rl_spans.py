"""What a model call leaves in OpenTelemetry spans, read back with the SDK."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from amplifier_core.testing import MockCoordinator
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from amplifier_module_hooks_vllm_tokens import mount
from amplifier_module_provider_vllm.rl import VLLMTokenRecorder
from tests.support.token_events import tokens_event

CALL = tokens_event(
    [1, 2, 3],
    [4, 5],
    logprobs=[-0.5, -0.25],
    session_id="session-1",
    finish_reason="tool_calls",
    response_id="chatcmpl-1",
    sampling={"temperature": 0.0, "top_p": 0.9, "max_tokens": 64, "stop": "###", "min_p": 0.1},
    usage={"input_tokens": 3, "output_tokens": 2, "cache_read_tokens": 0, "reasoning_tokens": 1},
)

ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "vllm",
    "gen_ai.conversation.id": "session-1",
    "gen_ai.request.model": "tiny-qwen3",
    "gen_ai.request.temperature": 0.0,
    "gen_ai.request.top_p": 0.9,
    "gen_ai.request.max_tokens": 64,
    "gen_ai.request.stop_sequences": ("###",),
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.model": "tiny-qwen3",
    "gen_ai.response.finish_reasons": ("tool_calls",),
    "gen_ai.usage.input_tokens": 3,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.usage.cache_read.input_tokens": 0,
    "gen_ai.usage.reasoning.output_tokens": 1,
    "llm.token_count.prompt": 3,
    "llm.token_count.completion": 2,
    "llm.hosted_vllm.prompt_token_ids": (1, 2, 3),
    "llm.hosted_vllm.response_token_ids": (4, 5),
    "llm.hosted_vllm.choices": '[{"token_ids": [4, 5]}]',
    "prompt_token_ids": (1, 2, 3),
    "response_token_ids": (4, 5),
    "logprobs.content": '[{"token_id": 4, "logprob": -0.5}, {"token_id": 5, "logprob": -0.25}]',
}

WITHOUT_OPENTELEMETRY = """
import asyncio, json, sys
sys.modules["opentelemetry"] = None
from amplifier_module_hooks_vllm_tokens import mount
from amplifier_module_provider_vllm.rl import VLLMTokenRecorder
recorder = VLLMTokenRecorder()
asyncio.run(recorder("llm:tokens", json.loads(sys.argv[1])))
print(recorder.token_ids)
"""


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """OpenTelemetry's provider can be set once in a process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(autouse=True)
def _only_own_spans(exporter: InMemorySpanExporter) -> Iterator[None]:
    yield
    exporter.clear()


async def test_a_call_is_written_into_the_span_that_records(exporter: InMemorySpanExporter) -> None:
    with trace.get_tracer("application").start_as_current_span("my agent"):
        await VLLMTokenRecorder()("llm:tokens", CALL)

    (span,) = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("my agent", ATTRIBUTES)


async def test_a_call_has_a_span_of_its_own_where_none_records(exporter: InMemorySpanExporter) -> None:
    await VLLMTokenRecorder()("llm:tokens", CALL)

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, dict(span.attributes or {})) == ("chat tiny-qwen3", SpanKind.CLIENT, ATTRIBUTES)


async def test_with_a_span_name_every_call_is_a_child_of_the_current_span(exporter: InMemorySpanExporter) -> None:
    recorder = VLLMTokenRecorder(span_name="raw_gen_ai_request")

    with trace.get_tracer("application").start_as_current_span("rollout"):
        await recorder("llm:tokens", CALL)
        await recorder("llm:tokens", CALL | {"response_id": "chatcmpl-2"})

    first, second, rollout = exporter.get_finished_spans()
    assert [span.name for span in (first, second, rollout)] == ["raw_gen_ai_request", "raw_gen_ai_request", "rollout"]
    assert {parent_of(first), parent_of(second)} == {rollout.context.span_id if rollout.context else None}
    assert [of(span, "gen_ai.response.id") for span in (first, second)] == ["chatcmpl-1", "chatcmpl-2"]


async def test_the_span_name_may_contain_the_model(exporter: InMemorySpanExporter) -> None:
    await VLLMTokenRecorder(span_name="vllm {model}")("llm:tokens", CALL)

    assert [span.name for span in exporter.get_finished_spans()] == ["vllm tiny-qwen3"]


async def test_calls_without_a_response_id_differ_by_their_place_in_the_request(
    exporter: InMemorySpanExporter,
) -> None:
    for index in range(2):
        await VLLMTokenRecorder()("llm:tokens", tokens_event([1], [2], call_index=index))

    assert [of(span, "gen_ai.response.id") for span in exporter.get_finished_spans()] == ["request-1-0", "request-1-1"]


async def test_what_is_not_known_is_no_attribute(exporter: InMemorySpanExporter) -> None:
    unknown: dict[str, object] = {"logprobs": None, "finish_reason": None, "sampling": {}, "usage": {}}

    await VLLMTokenRecorder()("llm:tokens", CALL | unknown)

    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {}).keys() == {
        key for key in ATTRIBUTES
        if not key.startswith(("gen_ai.usage", "logprobs", "gen_ai.response.finish"))
        and (not key.startswith("gen_ai.request") or key == "gen_ai.request.model")
    }  # fmt: skip


async def test_no_span_is_written_unless_asked(exporter: InMemorySpanExporter) -> None:
    await VLLMTokenRecorder(add_to_span=False)("llm:tokens", CALL)

    assert exporter.get_finished_spans() == ()


async def test_a_handler_of_a_session_finds_the_span_of_the_application(exporter: InMemorySpanExporter) -> None:
    coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
    VLLMTokenRecorder().attach(coordinator)

    with trace.get_tracer("application").start_as_current_span("my agent"):
        await coordinator.hooks.emit("llm:tokens", CALL)

    (span,) = exporter.get_finished_spans()
    assert (span.name, of(span, "response_token_ids")) == ("my agent", (4, 5))


@pytest.mark.parametrize(("config", "spans"), [({}, 0), ({"add_to_span": False}, 0), ({"add_to_span": "true"}, 1)])
async def test_the_module_writes_spans_if_it_is_told_to(
    exporter: InMemorySpanExporter, tmp_path: Path, config: dict[str, object], spans: int
) -> None:
    coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
    cleanup = await mount(coordinator, {"path": str(tmp_path), **config})

    await coordinator.hooks.emit("llm:tokens", CALL)
    await cleanup()

    assert len(exporter.get_finished_spans()) == spans


def test_without_opentelemetry_tokens_are_recorded_all_the_same() -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", WITHOUT_OPENTELEMETRY, json.dumps(CALL)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[4, 5]\n"


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def of(span: ReadableSpan, key: str) -> object:
    return (span.attributes or {}).get(key)
