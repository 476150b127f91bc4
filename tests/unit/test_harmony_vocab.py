"""The vocabulary files: found where users put them, else downloaded once, and never delaying a reply."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest

from amplifier_module_provider_vllm._harmony import vocabulary as vocabulary_module
from amplifier_module_provider_vllm._harmony.vocabulary import CHECKSUMS, Vocabulary
from tests.support.vocabulary import vocabulary_folder

NOWHERE = "http://127.0.0.1:1/encodings"
GREETING = [13225]  # "Hello"


class Host(ThreadingHTTPServer):
    """Serves a folder on the loopback: `wanted` counts the requests, no body ends before `release` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Answer, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.wanted: Counter[str] = Counter()
        self.release = threading.Event()
        self.release.set()


class _Answer(SimpleHTTPRequestHandler):
    server: Host

    def log_message(self, *_: Any) -> None:
        """Log nothing: the tests check `wanted`."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        self.server.wanted[self.path.removeprefix("/")] += 1
        body = source.read()
        outputfile.write(body[:1000])
        self.server.release.wait(timeout=30)
        outputfile.write(body[1000:])


@contextmanager
def serve_folder(folder: Path) -> Iterator[Host]:
    with Host(folder) as host:
        serve_folder = threading.Thread(target=host.serve_forever, args=[0.02])
        serve_folder.start()
        try:
            yield host
        finally:
            host.release.set()
            host.shutdown()
            serve_folder.join()


@pytest.fixture(autouse=True)
def _no_folder_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def host() -> Iterator[Host]:
    with serve_folder(vocabulary_folder()) as host:
        yield host


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def greeting(vocabulary: Vocabulary) -> list[int] | None:
    encoding = vocabulary.load()
    return None if encoding is None else encoding.encode("Hello")


def test_downloaded_files_are_complete_and_loaded(tmp_path: Path, host: Host) -> None:
    vocabulary = Vocabulary(tmp_path / "cache" / "vocab", host.url)

    before = greeting(vocabulary)
    vocabulary.fetch()

    assert (before, greeting(vocabulary)) == (None, GREETING)
    assert names(tmp_path / "cache" / "vocab") == sorted(CHECKSUMS)


def test_manually_installed_files_are_found(tmp_path: Path) -> None:
    for name in CHECKSUMS:
        (tmp_path / name).write_bytes((vocabulary_folder() / name).read_bytes())

    assert greeting(Vocabulary(tmp_path, NOWHERE)) == GREETING


def test_the_folder_that_the_environment_names_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))

    assert greeting(Vocabulary(tmp_path / "empty", NOWHERE)) == GREETING


def test_a_named_folder_without_the_files_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(tmp_path))

    assert greeting(Vocabulary(vocabulary_folder(), NOWHERE)) == GREETING


@pytest.mark.parametrize("named", [None, "/somewhere/else"], ids=["unset", "set"])
def test_the_environment_is_not_modified(named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if named is not None:
        monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", named)
    before = dict(os.environ)

    greeting(Vocabulary(vocabulary_folder(), NOWHERE))

    assert dict(os.environ) == before


def test_damaged_files_are_downloaded_again(tmp_path: Path, host: Host) -> None:
    for name in CHECKSUMS:
        (tmp_path / name).write_bytes((vocabulary_folder() / name).read_bytes()[:-1])
    vocabulary = Vocabulary(tmp_path, host.url)

    before = greeting(vocabulary)
    vocabulary.fetch()

    assert (before, greeting(vocabulary)) == (None, GREETING)


def test_a_download_with_a_wrong_checksum_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    for name in CHECKSUMS:
        (tmp_path / "served" / name).write_text("a page of some proxy")

    with serve_folder(tmp_path / "served") as host, pytest.raises(OSError, match="wrong checksum"):
        Vocabulary(tmp_path / "vocab", host.url).fetch()

    assert names(tmp_path / "vocab") == []


def test_a_file_gets_its_final_name_when_it_is_complete(tmp_path: Path, host: Host) -> None:
    host.release.clear()
    fetching = threading.Thread(target=Vocabulary(tmp_path, host.url).fetch)

    fetching.start()
    while not host.wanted:
        time.sleep(0.01)
    meanwhile = names(tmp_path)
    host.release.set()
    fetching.join()

    assert not set(meanwhile) & set(CHECKSUMS)
    assert names(tmp_path) == sorted(CHECKSUMS)


def test_concurrent_processes_download_once(tmp_path: Path, host: Host) -> None:
    """They start together, and the first files arrive later."""
    code = (
        "import sys; from pathlib import Path;"
        " from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary;"
        " print('ready', flush=True); input(); Vocabulary(Path(sys.argv[1]), sys.argv[2]).fetch()"
    )
    host.release.clear()

    with ExitStack() as running:
        processes = [running.enter_context(_python(code, str(tmp_path), host.url)) for _ in range(4)]
        ready = [_pipe(process.stdout).readline() for process in processes]
        for process in processes:
            _pipe(process.stdin).write("go\n")
            _pipe(process.stdin).flush()
        while not host.wanted:
            time.sleep(0.01)
        time.sleep(0.3)
        host.release.set()
        ended = [process.wait(timeout=60) for process in processes]

    assert (ready, ended) == (["ready\n"] * 4, [0] * 4)
    assert host.wanted == dict.fromkeys(CHECKSUMS, 1)
    assert names(tmp_path) == sorted(CHECKSUMS)


@pytest.mark.parametrize(("age", "fetched"), [(0, False), (3600, True)], ids=["at work", "killed"])
def test_a_lock_is_respected_until_it_expires(tmp_path: Path, host: Host, age: float, fetched: bool) -> None:
    lock = tmp_path / ".fetching"
    lock.touch()
    os.utime(lock, (time.time() - age, time.time() - age))

    Vocabulary(tmp_path, host.url).fetch()

    assert bool(host.wanted) is fetched
    assert lock.exists() is not fetched


async def test_a_reply_does_not_wait_for_a_download(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("HOME", str(tmp_path))
    host.release.clear()
    vocabulary = Vocabulary(source=host.url)

    during = [await vocabulary.encoding(), await vocabulary.encoding()]
    host.release.set()
    after = await asyncio.to_thread(_load, vocabulary)

    assert during == [None, None]
    assert after.encode("Hello") == GREETING
    assert host.wanted == dict.fromkeys(CHECKSUMS, 1)
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert logged == [
        "[TOKEN_ACCOUNTING] Downloading Harmony vocab files to ~/.amplifier/cache/vocab/...",
        "[TOKEN_ACCOUNTING] Loaded Harmony GPT-OSS encoder",
    ]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


async def test_without_a_network_there_is_one_warning_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vocabulary = Vocabulary(tmp_path, NOWHERE)

    encodings = [await vocabulary.encoding() for _ in range(3)]
    await asyncio.to_thread(_wait_for, "could not be downloaded", caplog)

    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert encodings == [None, None, None]
    assert len(warnings) == 1
    assert "o200k_base.tiktoken and cl100k_base.tiktoken" in warnings[0]
    assert "TIKTOKEN_ENCODINGS_BASE" in warnings[0]


def test_a_stalled_host_times_out(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_module, "READ_TIMEOUT", 0.1)
    host.release.clear()

    with pytest.raises(TimeoutError):
        Vocabulary(tmp_path, host.url).fetch()

    assert names(tmp_path) == []


def test_a_slow_host_times_out(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_module, "FETCH_TIMEOUT", 0.0)

    with pytest.raises(TimeoutError, match="took longer"):
        Vocabulary(tmp_path, host.url).fetch()

    assert names(tmp_path) == []


def test_a_read_only_folder_is_not_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "file").touch()
    vocabulary = Vocabulary(tmp_path / "file" / "vocab", NOWHERE)

    assert asyncio.run(vocabulary.encoding()) is None
    _wait_for("could not be downloaded", caplog)


def test_the_library_downloads_nothing_by_itself(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", host.url)
    monkeypatch.setenv("ALL_PROXY", host.url)
    began = time.monotonic()

    found = Vocabulary(tmp_path, NOWHERE).load()

    assert found is None
    assert time.monotonic() - began < 1
    assert not host.wanted


def _python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _wait_for(text: str, caplog: pytest.LogCaptureFixture) -> None:
    while not any(text in record.getMessage() for record in caplog.records):
        time.sleep(0.01)


def _load(vocabulary: Vocabulary) -> Any:
    while (encoding := vocabulary.load()) is None:
        time.sleep(0.05)
    return encoding
