"""Every fault of every endpoint, streamed and unstreamed: the correct answer or one typed error, in time."""

import pytest

from tests.support.call_events import EventCounts, assert_contract, attempts, event_counts, streamed_text
from tests.support.exchange import block_contents
from tests.support.fault import Fault
from tests.support.fault_table import FAULTS
from tests.support.provider_session import CITIES, provider_session
from tests.support.replay import ReplayServer
from tests.support.speaker import ANSWERS, Answer
from tests.support.speech import ANSWER_TEXT, REASONING_TEXT

TABLE = {
    f"{endpoint}-{name}": (ANSWERS[endpoint], fault)
    for endpoint, faults in FAULTS.items()
    for name, fault in faults.items()
}
PASSING = {name: (answer, fault) for name, (answer, fault) in TABLE.items() if fault.retries}
"""The faults that are retried."""

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


@both_ways
@pytest.mark.parametrize(("answer", "fault"), TABLE.values(), ids=TABLE)
async def test_a_permanent_fault_ends_in_one_typed_error(answer: Answer, fault: Fault, stream: bool) -> None:
    async with (
        ReplayServer(always=fault.reply(stream)) as server,
        provider_session(server, endpoint=answer.endpoint, use_streaming=stream, **fault.config) as (session, provider),
    ):
        with pytest.raises(fault.error) as raised:
            await provider.complete(CITIES)

    error, visible = raised.value, fault.text if stream else ""
    assert (type(error), error.provider, error.model) == (fault.error, "vllm", "tiny-qwen3")
    assert (error.status_code, fault.error_message(stream) in str(error)) == (fault.status, True), str(error)
    assert len(server.request_bodies) == 1 + fault.retries
    assert event_counts(session) == EventCounts(
        1, ["error"], fault.retries, aborted=(1 + fault.retries) if visible else 0
    )
    assert {text for attempt in attempts(session.events) if (text := streamed_text(attempt))} == {visible} - {""}
    assert_contract(session, None)


@both_ways
@pytest.mark.parametrize(("answer", "fault"), PASSING.values(), ids=PASSING)
async def test_a_temporary_fault_costs_one_retry(answer: Answer, fault: Fault, stream: bool) -> None:
    async with (
        ReplayServer(fault.reply(stream), answer.healthy[stream]) as server,
        provider_session(server, endpoint=answer.endpoint, use_streaming=stream, **fault.config) as (session, provider),
    ):
        response = await provider.complete(CITIES)

    assert block_contents(response) == [("thinking", REASONING_TEXT), ("text", ANSWER_TEXT)]
    assert event_counts(session) == EventCounts(1, ["ok"], retries=1, aborted=1 if stream and fault.text else 0)
    assert_contract(session, response)
