"""The module `hooks-vllm-tokens` in an Amplifier session: what its folder has when, and what it leaves alone."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amplifier_core.llm_errors import ConfigurationError
from amplifier_core.loader import ModuleLoader
from amplifier_core.testing import MockCoordinator
from amplifier_core.validation import HookValidator

from amplifier_module_hooks_vllm_tokens import mount
from amplifier_module_provider_vllm.rl import Observation, ToolCall, Trajectory, read_journal
from amplifier_module_provider_vllm.rl.atif import from_atif
from amplifier_module_provider_vllm.rl.rows import to_rows
from amplifier_module_provider_vllm.rl.session_capture import LARGE
from tests.support.full_disk import limited_files
from tests.support.recordings import load_recording
from tests.support.replay import ReplayServer
from tests.support.session import Session, open_session, vllm
from tests.support.token_events import tokens_event, tool_call

ROOT = Path(__file__).parents[2]
QUESTION = "What is the weather in Paris?"
ANSWER = "It is sunny and 21 degrees in Paris."
TOOL_TURN = [load_recording("tiny-qwen3", "r2_tool_stream"), load_recording("tiny-qwen3", "r3_after_tool_stream")]

CALL_ID = "chatcmpl-tool-ae6d85cc01a72e9d"
TOOL_CALL = tool_call(CALL_ID)


class Display:
    """What an app shows to its user."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str, str]] = []

    def show_message(self, message: str, level: str, source: str = "hook") -> None:
        self.shown.append((message, level, source))


@asynccontextmanager
async def capturing(
    folder: Path, *, turns: int = 1, config: Mapping[str, Any] = {}, **kernel: Any
) -> AsyncIterator[Session]:
    """A session with the hook. Each call emits made-up ids where the provider emits those of a server."""
    entry = {"module": "hooks-vllm-tokens", "config": {"path": str(folder), **(config or {})}}
    async with (
        ReplayServer(*TOOL_TURN * turns) as server,
        open_session(vllm(server.base_url), hooks=[entry], system="Be brief.", **kernel) as session,
    ):
        calls = count()

        async def emit_tokens(_name: str, _data: dict[str, Any]) -> None:
            await session.coordinator.hooks.emit("llm:tokens", event(next(calls)))

        session.coordinator.hooks.register("llm:response", emit_tokens, name="emit-tokens")
        yield session


def event(number: int) -> dict[str, Any]:
    """The payload of the session's n-th call: first a call of the tool, then the answer, in each turn."""
    content = [TOOL_CALL, {"type": "text", "text": ANSWER}][number % 2]
    return tokens_event(range(10 * number + 10), [7] * 3, request_id=f"request-{number}", content=[content])


def steps(turns: int = 1) -> list[tuple[str, str, tuple[Observation, ...], tuple[int, ...] | None]]:
    """What those turns are in a trajectory."""
    result = Observation(CALL_ID, "sunny, 21 C")
    turn = [("user", QUESTION, (), None), ("agent", "", (result,), (7, 7, 7)), ("agent", ANSWER, (), (7, 7, 7))]
    return [("system", "Be brief.", (), None), *turn * turns]


def told(trajectory: Trajectory) -> list[tuple[str, str, tuple[Observation, ...], tuple[int, ...] | None]]:
    return [
        (step.source, step.message, step.observations, None if step.call is None else step.call.token_ids)
        for step in trajectory.steps
    ]


def read_file(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_session_is_in_the_folder_at_the_end_of_each_turn(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    async with capturing(folder, turns=2) as session:
        name = session.coordinator.session_id
        before = folder.exists()
        await session.ask(QUESTION)
        (first,) = [from_atif(line) for line in read_file(folder / f"{name}.jsonl")]
        await session.ask(QUESTION)
        (second,) = [from_atif(line) for line in read_file(folder / f"{name}.jsonl")]

    assert not before
    assert (told(first), told(second)) == (steps(), steps(2))
    assert [call.prompt_token_ids for call in second.calls] == [tuple(range(10 * n + 10)) for n in range(4)]
    assert second.steps[2].tool_calls == (ToolCall(CALL_ID, "get_weather", {"city": "Paris"}),)
    assert {tool["function"]["name"] for tool in second.tools} == {"get_weather", "get_time"}
    assert (second.session_id, second.parent_session_id, second.model) == (name, None, "tiny-qwen3")
    assert read_journal(folder / f"{name}.journal") == second
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.journal", f"{name}.jsonl"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


async def test_the_journal_has_every_call_at_once(tmp_path: Path) -> None:
    found: list[int] = []

    async with capturing(tmp_path) as session:
        journal = tmp_path / f"{session.coordinator.session_id}.journal"

        async def count_calls(_name: str, _data: dict[str, Any]) -> None:
            found.append(len(read_journal(journal).calls))

        session.coordinator.hooks.register("tool:pre", count_calls)
        await session.ask(QUESTION)

    assert found == [1]


async def test_the_file_has_rows_if_rows_are_asked_for(tmp_path: Path) -> None:
    async with capturing(tmp_path, config={"format": "rows"}) as session:
        await session.ask(QUESTION)
        name = session.coordinator.session_id
        rows = read_file(tmp_path / f"{name}.jsonl")

    assert rows == to_rows(read_journal(tmp_path / f"{name}.journal"))
    assert [row["completion_mask"] for row in rows] == [[1, 1, 1], [1, 1, 1]]


async def test_what_came_after_the_last_turn_is_in_the_file_when_the_session_ends(tmp_path: Path) -> None:
    async with capturing(tmp_path) as session:
        await session.ask(QUESTION)
        await session.coordinator.hooks.emit("llm:tokens", event(3))
        await session.coordinator.get("context").add_message({"role": "user", "content": "Thanks."})
        name = session.coordinator.session_id

    (trajectory,) = [from_atif(line) for line in read_file(tmp_path / f"{name}.jsonl")]
    assert [step.message for step in trajectory.steps[-2:]] == [ANSWER, "Thanks."]


async def test_a_session_without_a_call_leaves_nothing(tmp_path: Path) -> None:
    async with capturing(tmp_path / "folder"):
        pass

    assert list(tmp_path.iterdir()) == []


async def test_a_resumed_session_goes_on_in_its_journal(tmp_path: Path) -> None:
    async with capturing(tmp_path, session_id="mine") as session:
        await session.ask(QUESTION)
        stored = await session.messages()

    async with capturing(tmp_path, session_id="mine", is_resumed=True) as session:
        await session.coordinator.get("context").set_messages(stored)
        await session.ask(QUESTION)

    (trajectory,) = [from_atif(line) for line in read_file(tmp_path / "mine.jsonl")]
    assert told(trajectory) == steps(2)


async def test_a_sub_agent_has_a_file_of_its_own_that_names_its_parent(tmp_path: Path) -> None:
    async with (
        capturing(tmp_path, session_id="parent") as parent,
        capturing(tmp_path, session_id="parent/../child", parent_id="parent") as child,
    ):
        await asyncio.gather(parent.ask(QUESTION), child.ask(QUESTION))

    assert {path.name for path in tmp_path.glob("*.jsonl")} == {"parent.jsonl", "parent%2F..%2Fchild.jsonl"}
    (trajectory,) = [from_atif(line) for line in read_file(tmp_path / "parent%2F..%2Fchild.jsonl")]
    assert (trajectory.session_id, trajectory.parent_session_id) == ("parent/../child", "parent")
    assert told(trajectory) == steps()


async def test_a_folder_that_cannot_be_made_costs_one_warning_and_no_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    display = Display()

    async with capturing(tmp_path / "file" / "folder", turns=2, display_system=display) as session:
        answers = [await session.ask(QUESTION), await session.ask(QUESTION)]

    assert [answer.strip() for answer in answers] == [ANSWER, ANSWER]
    ((message, level, source),) = display.shown
    assert message.startswith("the tokens of this session are no longer recorded: [Errno 20] Not a directory: ")
    assert message.endswith("Nothing of it is recorded.")
    assert (level, source) == ("warning", "hooks-vllm-tokens")
    assert [record.message for record in caplog.records if "TOKENS" in record.message] == [f"[TOKENS] vLLM: {message}"]


async def test_a_full_disk_ends_the_capture_and_leaves_what_there_is(tmp_path: Path) -> None:
    display = Display()

    async with capturing(tmp_path, turns=2, display_system=display) as session:
        name = session.coordinator.session_id
        await session.ask(QUESTION)
        with limited_files((tmp_path / f"{name}.journal").stat().st_size + 50):
            answer = await session.ask(QUESTION)

    assert answer.strip() == ANSWER
    assert told(read_journal(tmp_path / f"{name}.journal")) == steps()
    assert [(text.split(":")[0], level) for text, level, _ in display.shown] == [
        ("the tokens of this session are no longer recorded", "warning")
    ]
    assert f"The calls before are in {tmp_path / name}.journal." in display.shown[0][0]


async def test_a_file_that_cannot_be_written_is_said_once_and_the_journal_goes_on(tmp_path: Path) -> None:
    display = Display()
    (tmp_path / "mine.jsonl").mkdir()

    async with capturing(tmp_path, turns=2, session_id="mine", display_system=display) as session:
        await session.ask(QUESTION)
        await session.ask(QUESTION)

    assert told(read_journal(tmp_path / "mine.journal")) == steps(2)
    ((message, _, _),) = display.shown
    assert message.startswith(f"{tmp_path}/mine.jsonl cannot be written: ")
    assert message.endswith(f"What it would contain is in {tmp_path}/mine.journal.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.journal", "mine.jsonl"]


async def test_a_second_hook_for_the_same_folder_says_that_the_session_is_being_written(tmp_path: Path) -> None:
    display = Display()
    async with capturing(tmp_path, display_system=display) as session:
        cleanup = await mount(session.coordinator, {"path": str(tmp_path)})
        await session.ask(QUESTION)
        await cleanup()
        name = session.coordinator.session_id

    assert told(read_journal(tmp_path / f"{name}.journal")) == steps()
    assert ["is already being written" in message for message, _, _ in display.shown] == [True]


async def test_the_file_of_a_large_session_is_written_in_proportion_to_its_growth(tmp_path: Path) -> None:
    coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
    written: list[int] = []

    async def turn(prompt: Sequence[int]) -> None:
        await coordinator.hooks.emit("llm:tokens", tokens_event(prompt, [7]))
        await coordinator.hooks.emit("orchestrator:complete", {})
        (line,) = read_file(tmp_path / "test-session.jsonl")
        written.append(len(from_atif(line).calls))

    cleanup = await mount(coordinator, {"path": str(tmp_path)})
    await turn(range(LARGE // 6))
    await turn([1])
    await turn(range(1, LARGE // 30))
    await turn([1])
    await cleanup()

    (line,) = read_file(tmp_path / "test-session.jsonl")
    assert (written, len(from_atif(line).calls)) == ([1, 1, 3, 3], 4)


async def test_a_relative_path_is_in_the_working_directory_of_the_session(tmp_path: Path) -> None:
    coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
    coordinator.register_capability("session.working_dir", str(tmp_path))

    cleanup = await mount(coordinator, {"path": "tokens"})
    await coordinator.hooks.emit("llm:tokens", event(1))
    await cleanup()

    (call,) = read_journal(tmp_path / "tokens" / "test-session.journal").calls
    assert call.token_ids == (7, 7, 7)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"format": "xml"}, "config key 'format' is 'xml': input should be 'atif' or 'rows'"),
        ({"path": ""}, "config key 'path' is '': value error, the path of a folder is needed"),
        ({"path": 7}, "config key 'path' is 7: input is not a valid path"),
        ({"add_to_span": "perhaps"}, "config key 'add_to_span' is 'perhaps': input should be a valid boolean"),
    ],
    ids=lambda one: str(one),
)
async def test_an_invalid_value_is_an_error_that_names_it_and_what_is_allowed(
    config: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^hooks-vllm-tokens: {re.escape(said)}"):
        await mount(MockCoordinator(), config)  # type: ignore[no-untyped-call]


async def test_an_unknown_key_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    await mount(MockCoordinator(), {"pth": "x", "zebra": 1})  # type: ignore[no-untyped-call]

    assert caplog.messages == [
        "[TOKENS] vLLM: unknown config key 'pth': did you mean 'path'?",
        "[TOKENS] vLLM: unknown config key 'zebra': the keys are path, format, add_to_span",
    ]


async def test_the_validator_of_the_kernel_accepts_the_module_and_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    result = await HookValidator().validate(ROOT / "amplifier_module_hooks_vllm_tokens", config={"path": str(folder)})

    assert (result.passed, result.errors) == (True, [])
    assert not folder.exists()


async def test_the_loader_of_the_kernel_finds_the_module_in_a_source_that_has_several(tmp_path: Path) -> None:
    """As Amplifier's app does for `source: /path/to/a/checkout`."""
    coordinator = MockCoordinator()  # type: ignore[no-untyped-call]
    source = SimpleNamespace(resolve=lambda: ROOT)
    resolver = SimpleNamespace(resolve=lambda *_names, **_hints: source)
    await coordinator.mount("module-source-resolver", resolver)

    mount_hook = await ModuleLoader(coordinator).load("hooks-vllm-tokens", {"path": str(tmp_path)})
    cleanup = await mount_hook(coordinator)

    assert set(coordinator.hooks.list_handlers()) == {"llm:tokens", "orchestrator:complete", "execution:end"}
    assert cleanup is not None
    await cleanup()
    assert [names for names in coordinator.hooks.list_handlers().values() if names] == []
