"""With `token_in` the ids of a session only grow: every prompt begins with what the model read and wrote before."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from amplifier_module_provider_vllm.rl import Call, Segment, merge
from tests.live.endpoints import later
from tests.rig.replies import Tokens
from tests.rig.server import LiveServer
from tests.support.episodes import EPISODES, FEW, LEFT_CUT, Episode, Played, extends, follow_ups, play_all

pytestmark = pytest.mark.live

FIRST_CALL = "first call"

at_both_temperatures = pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
streamed_and_whole = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


@pytest.mark.usefixtures("vocabulary")
@pytest.mark.parametrize(
    ("stream", "temperature"), [(True, 0.0), (False, 1.0)], ids=["streamed-greedy", "unstreamed-sampled"]
)
async def test_a_session_of_every_kind_is_one_run_of_tokens(
    server: LiveServer, stream: bool, temperature: float
) -> None:
    await _assert_exact(server, FEW, stream=stream, temperature=temperature)


@later
@pytest.mark.usefixtures("vocabulary")
@streamed_and_whole
@at_both_temperatures
async def test_every_session_is_one_run_of_tokens(server: LiveServer, stream: bool, temperature: float) -> None:
    await _assert_exact(server, EPISODES, stream=stream, temperature=temperature)


@later
@streamed_and_whole
async def test_a_reply_that_stays_cut_is_closed_before_the_next_question(qwen: LiveServer, stream: bool) -> None:
    await _assert_exact(qwen, LEFT_CUT, stream=stream, temperature=0)


@pytest.mark.usefixtures("vocabulary")
async def test_messages_alone_do_not_repeat_what_was_sampled(server: LiveServer) -> None:
    """Why there is `token_in`; if this fails, the sessions above prove little."""
    played = await play_all(server.base_url, FEW, temperature=0)

    counted = follow_ups(played)
    assert counted.exact < counted.all
    assert [problem for one in played for problem in _wrong_tokens(one)] == []


async def _assert_exact(server: LiveServer, episodes: Sequence[Episode], *, stream: bool, temperature: float) -> None:
    played = await play_all(server.base_url, episodes, token_in=True, use_streaming=stream, temperature=temperature)

    assert [problem for one in played for problem in _problems(one)] == []
    # Else the sessions would prove little: they go on, some replies were cut, and some reminders were sent.
    assert follow_ups(played).all > 1.5 * len(played)
    assert {call["finish_reason"] for one in played for call in one.calls} >= {"tool_calls", "stop", "length"}


def _problems(played: Played) -> Iterator[str]:
    yield from _broken_runs(played)
    yield from _wrong_tokens(played)
    yield from _wrong_rows(played)


def _broken_runs(played: Played) -> Iterator[str]:
    name = played.episode.name
    for number, (before, after) in enumerate(pairwise(played.calls), 2):
        if not extends(before, after):
            yield f"{name}: the prompt of call {number} does not begin with prompt and reply of call {number - 1}"
    reasons = [call["segment"] for call in played.calls]
    if reasons != [FIRST_CALL, *[None] * (len(reasons) - 1)]:
        yield f"{name}: the segments begin because of {reasons}"


def _wrong_tokens(played: Played) -> Iterator[str]:
    told = [
        Tokens(tuple(call["prompt_token_ids"]), tuple(call["token_ids"]), _singles(call["logprobs"]))
        for call in played.calls
    ]
    if sorted(told) != sorted(replace(one, logprobs=_singles(one.logprobs)) for one in played.wire):
        yield f"{played.episode.name}: the events tell other tokens than the server sent"
    if [one for one in told if len(one.logprobs) != len(one.sampled) or not one.sampled]:
        yield f"{played.episode.name}: the log probabilities do not match the tokens"


def _wrong_rows(played: Played) -> Iterator[str]:
    """The merged session against the tokens on the wire."""
    name, rows = played.episode.name, merge([Call.from_event(call) for call in played.calls])
    if len(rows) != 1:
        yield f"{name}: {len(rows)} rows"
        return
    (row,) = rows
    last = max(played.wire, key=lambda tokens: len(tokens.prompt))
    if [*row.prompt_ids, *row.completion_ids] != [*last.prompt, *last.sampled]:
        yield f"{name}: the row is not the last prompt with its reply"
    sampled = sorted(played.wire, key=lambda tokens: len(tokens.prompt))
    if _trained(row) != [pair for one in sampled for pair in zip(one.sampled, _singles(one.logprobs), strict=True)]:
        yield f"{name}: the row trains on other tokens than the server sampled"


def _trained(row: Segment) -> list[tuple[int, float]]:
    logprobs = _singles(one or 0.0 for one in row.logprobs or ())
    tokens = zip(row.completion_ids, logprobs, row.completion_mask, strict=True)
    return [(token, logprob) for token, logprob, mask in tokens if mask]


def _singles(logprobs: Iterable[float]) -> tuple[float, ...]:
    """In the precision in which vLLM computes them: the kernel's copy of an event changes a double's last bit."""
    return tuple(array("f", logprobs))
