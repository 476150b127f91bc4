"""Trajectories for tests: a session with two tool steps, and strategies for any calls and sessions."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from amplifier_module_provider_vllm.rl import Call, Observation, Step, ToolCall, Trajectory

TOOL = {"type": "function", "function": {"name": "get_weather", "description": "", "parameters": {"type": "object"}}}

EVENT: dict[str, Any] = {
    "provider": "vllm",
    "model": "tiny-qwen3",
    "request_id": "req-1",
    "call_index": 1,
    "prompt_token_ids": [1, 2],
    "token_ids": [3, 4],
    "logprobs": [-0.5, -0.25],
    "finish_reason": "tool_calls",
    "endpoint": "chat",
    "response_id": "chatcmpl-1",
    "policy_version": "7",
    "token_in": True,
    "segment": "first call",
    "sampling": {"temperature": 1.0},
    "usage": {"input_tokens": 2, "output_tokens": 2, "cache_read_tokens": 1},
    "timestamp": "2026-11-22T01:02:03+00:00",
}

FIRST = Call.from_event(EVENT)
SECOND = Call((1, 2, 3, 4, 8, 9), (5, 6), (-0.125, -1.0), "stop", "tiny-qwen3", "chat", token_in=True)

SESSION = Trajectory(
    session_id="session-1",
    steps=(
        Step("system", "Be brief."),
        Step("user", "Is it warm in Paris?"),
        Step(
            "agent",
            "",
            reasoning="I need the weather.",
            tool_calls=(ToolCall("call-1", "get_weather", {"city": "Paris"}),),
            observations=(Observation("call-1", "21 °C"),),
            call=FIRST,
        ),
        Step("agent", "Yes, 21 °C.", call=SECOND),
    ),
    agent_version="1.0",
    model="tiny-qwen3",
    tools=(TOOL,),
    reward=1.0,
)


def chain(*pairs: tuple[Sequence[int], Sequence[int]], start: Sequence[int] = ()) -> list[Call]:
    """Calls that each extend the one before: of each pair, what came in between and what was sampled."""
    calls: list[Call] = []
    ids = tuple(start)
    for between, sampled in pairs:
        calls.append(Call(ids + tuple(between), tuple(sampled), tuple(-float(token) for token in sampled)))
        ids += tuple(between) + tuple(sampled)
    return calls


_texts = st.text(max_size=4)
_maybe_texts = st.none() | _texts
_ids = st.lists(st.integers(0, 2), max_size=4).map(tuple)
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_objects = st.dictionaries(st.text(min_size=1, max_size=3), st.integers() | _texts, max_size=2)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Any call. Few ids, so that prompts extend each other by chance."""
    token_ids = draw(_ids)
    return Call(
        prompt_token_ids=draw(_ids),
        token_ids=token_ids,
        logprobs=draw(st.none() | st.tuples(*[_numbers] * len(token_ids))),
        finish_reason=draw(_maybe_texts),
        model=draw(_texts),
        endpoint=draw(_texts),
        request_id=draw(_maybe_texts),
        response_id=draw(_maybe_texts),
        call_index=draw(st.integers(0, 3)),
        policy_version=draw(_maybe_texts),
        token_in=draw(st.booleans()),
        segment=draw(_maybe_texts),
        sampling=draw(_objects),
        usage=draw(_objects),
        timestamp=draw(_maybe_texts),
    )


@st.composite
def conversations(draw: st.DrawFn) -> list[Call]:
    """Calls that often extend an earlier one, as those of a session do."""
    made: list[Call] = []
    for call in draw(st.lists(calls(), max_size=6)):
        before = draw(st.sampled_from([None, *made]))
        ids = () if before is None else before.prompt_token_ids + before.token_ids
        made.append(Call(ids + call.prompt_token_ids, call.token_ids, call.logprobs, segment=call.segment))
    return made


_tool_calls = st.builds(ToolCall, _texts, _texts, _objects)
_messages = st.builds(Step, st.sampled_from(["system", "user"]), _texts, timestamp=_maybe_texts)
_agent_steps = st.builds(
    Step,
    st.just("agent"),
    _texts,
    reasoning=_maybe_texts,
    tool_calls=st.lists(_tool_calls, max_size=2).map(tuple),
    observations=st.lists(st.builds(Observation, _texts, _texts), max_size=2).map(tuple),
    call=st.none() | calls(),
    timestamp=_maybe_texts,
)


def sessions(session_ids: st.SearchStrategy[str] = _texts) -> st.SearchStrategy[Trajectory]:
    return st.builds(
        Trajectory,
        session_id=session_ids,
        steps=st.lists(_messages | _agent_steps, min_size=1, max_size=6).map(tuple),
        parent_session_id=_maybe_texts,
        agent_name=_texts,
        agent_version=_texts,
        model=_texts,
        tools=st.just(()) | st.just((TOOL,)),
        reward=st.none() | _numbers,
        extra=st.dictionaries(st.sampled_from(["task", "seed"]), st.integers(), max_size=2),
    )
