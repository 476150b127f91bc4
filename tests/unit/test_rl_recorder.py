"""The recorder of token ids, as a handler of a session's events."""

from typing import Any

from amplifier_core import HookResult
from amplifier_core.testing import MockCoordinator

from amplifier_module_provider_vllm.rl import VLLMTokenRecorder
from tests.support.token_events import tokens_event


async def test_every_call_of_a_session_is_recorded_until_the_recorder_is_detached() -> None:
    coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
    recorder, other = VLLMTokenRecorder(), VLLMTokenRecorder()
    detach, _ = recorder.attach(coordinator), other.attach(coordinator)

    await coordinator.hooks.emit("llm:tokens", tokens_event([1, 2], [3]))
    await coordinator.hooks.emit("llm:tokens", tokens_event([1, 2, 3, 4], [5]))
    detach()
    await coordinator.hooks.emit("llm:tokens", tokens_event([9], [9]))

    assert (recorder.prompt_token_ids, recorder.token_ids) == ([1, 2, 3, 4], [5])
    assert recorder.history == [
        {"prompt_token_ids": [1, 2], "token_ids": [3]},
        {"prompt_token_ids": [1, 2, 3, 4], "token_ids": [5]},
    ]
    assert len(other.history) == 3


async def test_a_recorder_has_nothing_before_the_first_call_and_after_a_reset() -> None:
    recorder = VLLMTokenRecorder()
    before = (recorder.prompt_token_ids, recorder.token_ids, list(recorder.history))
    await recorder("llm:tokens", tokens_event([1], [2]))
    kept = recorder.history

    recorder.reset()

    assert before == (recorder.prompt_token_ids, recorder.token_ids, recorder.history) == (None, None, [])
    assert kept == [{"prompt_token_ids": [1], "token_ids": [2]}]


async def test_the_inner_handler_is_called_after_the_recorder_and_its_result_counts() -> None:
    seen: list[tuple[str, object]] = []

    async def inner(event: str, _data: dict[str, Any]) -> HookResult:
        seen.append((event, recorder.token_ids))
        return HookResult(action="deny", reason="enough")

    recorder = VLLMTokenRecorder(inner)
    result = await recorder("llm:tokens", tokens_event([1], [2]))

    assert seen == [("llm:tokens", [2])]
    assert (result.action, result.reason) == ("deny", "enough")


async def test_other_events_are_for_the_inner_handler_alone() -> None:
    seen: list[str] = []

    async def inner(event: str, _data: dict[str, Any]) -> None:
        seen.append(event)

    recorder = VLLMTokenRecorder(inner)
    result = await recorder("llm:response", {})

    assert (seen, result.action, recorder.history) == (["llm:response"], "continue", [])
