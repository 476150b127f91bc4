"""The gpt-oss vocabulary: find its files or fetch them in the background, and load the encoding."""

import asyncio
import hashlib
import http.client
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

logger = logging.getLogger(__name__)

SOURCE: Final = "https://openaipublic.blob.core.windows.net/encodings"
"""The source that openai-harmony and tiktoken use."""

CHECKSUMS: Final = {
    "o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""SHA-256 of each file. gpt-oss needs the first; with the second, vLLM can use the same folder."""

FOLDER_VARIABLE: Final = "TIKTOKEN_ENCODINGS_BASE"
"""Sets the folder from which openai-harmony, and so vLLM, reads the files."""

LIBRARY: Final = "openai_harmony/openai_harmony.*"

CACHE_FOLDER: Final = "~/.amplifier/cache/vocab"

READ_TIMEOUT: Final = 5.0
"""Seconds to wait for the next bytes of a download."""

FETCH_TIMEOUT: Final = 20.0
"""Seconds for both files, 5.3 MB."""

READ_SIZE: Final = 1 << 16

NO_COUNTS: Final = "vLLM gives no token counts, and the vocabulary to count them is missing: replies have no usage"

NO_READER: Final = "the vocabulary to read gpt-oss token ids is missing: /v1/completions gives no reply of it"

# The environment belongs to the whole process: only one of our threads at a time changes and restores it.
_environment = threading.Lock()


class Vocabulary:
    """The gpt-oss encoding, loaded once. Missing files are fetched once, in the background.

    The search order is the folder in TIKTOKEN_ENCODINGS_BASE, then `folder`, then the package itself: the distribution
    oss-harmony, which vLLM installs, embeds the files.
    """

    def __init__(self, folder: Path | None = None, source: str = SOURCE) -> None:
        self._folder = Path(os.path.expanduser(CACHE_FOLDER)) if folder is None else folder  # noqa: PTH111 - Path.home() can fail
        self._source = source
        self._encoding: HarmonyEncoding | None = None
        self._loading = threading.Lock()
        self._fetching: threading.Thread | None = None

    async def encoding(self, lost: str = NO_COUNTS) -> "HarmonyEncoding | None":
        """The encoding if its files are on disk; else None, and a fetch starts. `lost`: what its lack costs."""
        return self._encoding or await asyncio.to_thread(self._load_or_fetch, lost)

    def load(self) -> "HarmonyEncoding | None":
        """The encoding from the first folder with the files. The first load takes 0.2 s."""
        with self._loading:
            if self._encoding is None:
                candidates = (_load_from(folder) for folder in self._folders())
                self._encoding = next((found for found in candidates if found is not None), None)
                if self._encoding is not None:
                    logger.info("[TOKEN_ACCOUNTING] Loaded Harmony GPT-OSS encoder")
            return self._encoding

    def fetch(self) -> None:
        """Download missing files, unless another process is doing so. Raises `OSError` if that fails."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _fetch_lock(self._folder / ".fetching") as locked:
            missing = [name for name in CHECKSUMS if locked and not _is_valid(self._folder / name, CHECKSUMS[name])]
            if missing:
                logger.info("[TOKEN_ACCOUNTING] Downloading Harmony vocab files to %s/...", _display_path(self._folder))
            deadline = time.monotonic() + FETCH_TIMEOUT
            for name in missing:
                _download(f"{self._source.rstrip('/')}/{name}", self._folder / name, deadline)

    def _folders(self) -> Iterator[Path | None]:
        """The folders to search, in order; None is the package itself."""
        configured = os.environ.get(FOLDER_VARIABLE)
        yield from (Path(configured), self._folder) if configured else (self._folder,)
        if _is_embedded():
            yield None

    def _load_or_fetch(self, lost: str) -> "HarmonyEncoding | None":
        encoding = self.load()
        with self._loading:
            if encoding is not None or self._fetching is not None:
                return encoding
            # A daemon, so that the end of a session does not wait for it.
            self._fetching = threading.Thread(target=self._fetch_quietly, name="harmony-vocabulary", daemon=True)
        logger.warning(
            "[TOKEN_ACCOUNTING] %s until %s are in %s. They are being fetched from %s; without internet, put them there"
            " by hand, or set their folder in %s.",
            lost,
            " and ".join(CHECKSUMS),
            _display_path(self._folder),
            self._source,
            FOLDER_VARIABLE,
        )
        self._fetching.start()
        return None

    def _fetch_quietly(self) -> None:
        try:
            self.fetch()
        except (OSError, ValueError, http.client.HTTPException) as error:
            logger.info("[TOKEN_ACCOUNTING] The Harmony vocab files could not be downloaded: %s", error)


@cache
def shared_vocabulary() -> Vocabulary:
    """The one vocabulary of this process, for every server: it takes 100 MB once loaded."""
    return Vocabulary()


def _load_from(folder: Path | None) -> "HarmonyEncoding | None":
    """The encoding from a folder's files, which openai-harmony verifies, or from the package itself."""
    # The import takes 0.1 s, and most servers never need it.
    from openai_harmony import (
        HarmonyEncodingName,
        HarmonyError,  # pyright: ignore[reportUnknownVariableType] - of its compiled module, which has no stub
        load_harmony_encoding,
    )

    # Without the variable openai-harmony would download the files itself, holding the GIL.
    with _environment, _folder_in_environment(folder):
        try:
            return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
        except HarmonyError:
            return None


@contextmanager
def _folder_in_environment(folder: Path | None) -> Generator[None]:
    """Set the folder variable, or unset it for None, for the duration of the block."""
    before = os.environ.get(FOLDER_VARIABLE)
    _set_folder_variable(None if folder is None else str(folder))
    try:
        yield
    finally:
        _set_folder_variable(before)


def _set_folder_variable(folder: str | None) -> None:
    if folder is None:
        os.environ.pop(FOLDER_VARIABLE, None)
    elif os.environ.get(FOLDER_VARIABLE) != folder:
        os.environ[FOLDER_VARIABLE] = folder


def _is_embedded() -> bool:
    """Whether `openai_harmony` comes from oss-harmony: if both distributions are installed, one overwrote the other."""
    try:
        files = metadata.distribution("oss-harmony").files or []
        return any(file.size == Path(file.locate()).stat().st_size for file in files if file.match(LIBRARY))
    except (metadata.PackageNotFoundError, OSError):
        return False


@contextmanager
def _fetch_lock(lock: Path) -> Generator[bool]:
    """Whether this process got the lock. A stale lock, left by a killed process, is removed."""
    with suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > 2 * FETCH_TIMEOUT:
            lock.unlink()
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        yield False
        return
    try:
        yield True
    finally:
        lock.unlink(missing_ok=True)


def _is_valid(file: Path, checksum: str) -> bool:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == checksum
    except FileNotFoundError:
        return False


def _download(url: str, file: Path, deadline: float) -> None:
    """Write the file atomically: it gets its name after its checksum is verified."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with part.open("wb") as stream:
            stream.writelines(_read(url, deadline))
        if not _is_valid(part, CHECKSUMS[file.name]):
            raise OSError(f"{url} has the wrong checksum")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _read(url: str, deadline: float) -> Iterator[bytes]:
    with urllib.request.urlopen(url, timeout=READ_TIMEOUT) as response:  # noqa: S310 - the source is ours, the file is checked
        while piece := response.read1(READ_SIZE):
            yield piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} took longer than {FETCH_TIMEOUT:.0f} s")


def _display_path(folder: Path) -> str:
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() can fail
    return str(folder).replace(home, "~", 1) if str(folder).startswith(home + os.sep) else str(folder)
