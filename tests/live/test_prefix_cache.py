"""The prefix cache hits of a real server while a tool turn grows and its reminders change."""

import pytest

from bench.prefix_cache import STEPS, attach_reminder, hoist_reminder, measure, reasoning_of
from tests.rig.server import LiveServer

pytestmark = pytest.mark.live

LEAST = 0.95


async def test_changing_reminders_do_not_invalidate_the_prefix_cache(storing_server: LiveServer) -> None:
    steps = await measure(storing_server.base_url, attach_reminder)

    assert [step for step in steps if step.cached < LEAST * step.possible] == []
    # Nearly all of the previous prompt could be cached; else the assertion above would prove little.
    assert [n for n in range(1, STEPS) if steps[n].possible < 0.6 * steps[n - 1].prompt] == []


async def test_the_reasoning_of_the_running_tool_turn_stays_in_the_prompt(storing_server: LiveServer) -> None:
    *_, last = await measure(storing_server.base_url, attach_reminder)

    assert [n for n in range(1, STEPS) if reasoning_of(n) not in last.text] == []


async def test_hoisted_reminders_would_invalidate_the_cache_from_their_position(storing_server: LiveServer) -> None:
    *_, first, last = await measure(storing_server.base_url, hoist_reminder)

    assert last.cached == first.cached < 0.2 * last.prompt
