"""The hook events of a running call."""

from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest

from tests.live.endpoints import at_every_endpoint
from tests.rig.server import LiveServer
from tests.support.exchange import CAPITAL, COUNT, TWO_WEATHERS, WEATHER, block_contents, mounted_provider
from tests.support.session import Session, open_session, vllm

pytestmark = pytest.mark.live

STREAM = ("llm:stream_block_start", "llm:stream_block_delta", "llm:stream_block_end")
KINDS = {"text": "text", "thinking": "thinking", "tool_call": "tool_use"}

over_every_kind_of_reply = pytest.mark.parametrize(
    "question",
    [
        pytest.param(CAPITAL, id="answer"),
        pytest.param(WEATHER, id="call"),
        pytest.param(TWO_WEATHERS, id="several-calls"),
        pytest.param(COUNT, id="long-answer"),
    ],
)


@at_every_endpoint
@over_every_kind_of_reply
async def test_blocks_stream_in_contract_order_with_their_index_in_the_reply(
    session: Session, question: ChatRequest
) -> None:
    response = await mounted_provider(session).complete(question)

    happened = [event for event in session.events if event.name.startswith("llm:")]
    assert [_shape(event.name, event.data) for event in happened] == [
        ("llm:request", {}),
        *_expected_stream(response, session),
        ("llm:response", {}),
    ]


@over_every_kind_of_reply
async def test_joined_deltas_are_the_text_of_their_block(session: Session, question: ChatRequest) -> None:
    response: Any = await mounted_provider(session).complete(question)

    streamed: dict[int, str] = {}
    for delta in session.payloads("llm:stream_block_delta"):
        streamed[delta["block_index"]] = streamed.get(delta["block_index"], "") + delta["text"]
    blocks = enumerate(response.content_blocks)
    assert streamed == {index: block.text for index, block in blocks if block.type.value != "tool_call"}


async def test_every_event_of_a_call_has_its_own_request_id(session: Session) -> None:
    await mounted_provider(session).complete(CAPITAL)
    first = len(session.events)
    await mounted_provider(session).complete(CAPITAL)

    ids = [event.data.get("request_id") for event in session.events[:first] if event.name.startswith("llm:")]
    later = [event.data.get("request_id") for event in session.events[first:] if event.name.startswith("llm:")]
    assert len(set(ids)) == len(set(later)) == 1
    assert None not in ids
    assert set(ids).isdisjoint(later)


async def test_an_unstreamed_reply_emits_a_request_and_a_response_only(session: Session) -> None:
    response = await mounted_provider(session).complete(CAPITAL.model_copy(update={"metadata": {"stream": False}}))

    (event,) = session.payloads("llm:response")
    assert [event.name for event in session.events if event.name.startswith("llm:")] == ["llm:request", "llm:response"]
    assert response.usage is not None
    assert (event["status"], event["finish_reason"]) == ("ok", "stop")
    assert event["usage"] == {"cost_usd": None, **response.usage.model_dump(mode="json", exclude_none=True)}


async def test_two_instances_use_their_own_servers_and_names(
    qwen: LiveServer, gpt_oss: LiveServer, endpoint: str
) -> None:
    servers = {"near": qwen, "far": gpt_oss}
    config = {"temperature": 0, "endpoint": endpoint}
    plan = [vllm(server.base_url, instance_id=name, **config) for name, server in servers.items()]

    async with open_session(*plan) as session:
        replies = {name: await mounted_provider(session, name).complete(CAPITAL) for name in servers}

    events = [
        (event.name, event.data["instance"], event.data["base_url"], event.data["model"])
        for event in session.events
        if event.name in ("llm:request", "llm:response")
    ]
    assert events == [
        (name, instance, server.base_url, server.model)
        for instance, server in servers.items()
        for name in ("llm:request", "llm:response")
    ]
    models = {name: (reply.metadata or {})["vllm:model"] for name, reply in replies.items()}
    assert models == {name: server.model for name, server in servers.items()}
    assert [block_contents(reply)[-1] for reply in replies.values()] == [
        ("text", "The capital of France is Paris.")
    ] * 2


def _shape(name: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    keys = ("block_index", "block_type", "sequence", "name")
    return name, {key: data[key] for key in keys if key in data}


def _expected_stream(response: Any, session: Session) -> list[tuple[str, dict[str, Any]]]:
    """The stream events that the contract requires for this reply, without the number of deltas."""
    start, delta, end = STREAM
    deltas = [event["block_index"] for event in session.payloads(delta)]
    expected: list[tuple[str, dict[str, Any]]] = []
    for index, block in enumerate(response.content_blocks):
        about = {"block_index": index, "block_type": KINDS[block.type.value]}
        expected.append((start, about | ({"name": block.name} if block.type.value == "tool_call" else {})))
        expected += [(delta, about | {"sequence": number}) for number in range(deltas.count(index))]
        expected.append((end, about))
    return expected
