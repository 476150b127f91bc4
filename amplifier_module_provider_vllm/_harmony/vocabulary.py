"""The vocabulary of gpt-oss: its files found, or fetched in the background, and its encoding loaded from them."""

import asyncio
import hashlib
import http.client
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

logger = logging.getLogger(__name__)

SOURCE: Final = "https://openaipublic.blob.core.windows.net/encodings"
"""Where openai-harmony and tiktoken download the files from themselves."""

CHECKSUMS: Final = {
    "o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""SHA-256 of each file. gpt-oss needs the first; the second completes a folder that vLLM itself can be pointed at."""

FOLDER_VARIABLE: Final = "TIKTOKEN_ENCODINGS_BASE"
"""Names the folder that openai-harmony, and vLLM with it, reads the files from."""

LIBRARY: Final = "openai_harmony/openai_harmony.*"

CACHE_FOLDER: Final = "~/.amplifier/cache/vocab"

READ_TIMEOUT: Final = 5.0
"""Seconds to wait for the next bytes of a download."""

FETCH_TIMEOUT: Final = 20.0
"""Seconds for both files, 5.3 MB."""

READ_SIZE: Final = 1 << 16

# The environment belongs to the whole process: one of our threads at a time changes it, and puts it back.
_environment = threading.Lock()


class Vocabulary:
    """The encoding of gpt-oss, loaded once. Where there are no files they are fetched once, and nobody waits for that.

    Looked for in the folder that TIKTOKEN_ENCODINGS_BASE names, then in `folder`, then in the package itself: the
    distribution oss-harmony, which vLLM installs, embeds them.
    """

    def __init__(self, folder: Path | None = None, source: str = SOURCE) -> None:
        self._folder = Path(os.path.expanduser(CACHE_FOLDER)) if folder is None else folder  # noqa: PTH111 - it never fails
        self._source = source
        self._encoding: HarmonyEncoding | None = None
        self._loading = threading.Lock()
        self._fetching: threading.Thread | None = None

    async def encoding(self) -> "HarmonyEncoding | None":
        """The encoding, if its files are here; else None, and they are on their way."""
        return self._encoding or await asyncio.to_thread(self._load_or_fetch)

    def load(self) -> "HarmonyEncoding | None":
        """The encoding from the first folder that has the files. Takes a fifth of a second, the first time."""
        with self._loading:
            if self._encoding is None:
                candidates = (_load_from(folder) for folder in self._folders())
                self._encoding = next((found for found in candidates if found is not None), None)
                if self._encoding is not None:
                    logger.info("[TOKEN_ACCOUNTING] Loaded Harmony GPT-OSS encoder")
            return self._encoding

    def fetch(self) -> None:
        """Download what is missing, unless another process is at it. Raises `OSError` where that does not succeed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _fetch_lock(self._folder / ".fetching") as locked:
            missing = [name for name in CHECKSUMS if locked and not _is_valid(self._folder / name, CHECKSUMS[name])]
            if missing:
                logger.info("[TOKEN_ACCOUNTING] Downloading Harmony vocab files to %s/...", _display_path(self._folder))
            deadline = time.monotonic() + FETCH_TIMEOUT
            for name in missing:
                _download(f"{self._source.rstrip('/')}/{name}", self._folder / name, deadline)

    def _folders(self) -> Iterator[Path | None]:
        """Where to look, in order; None stands for the package itself."""
        configured = os.environ.get(FOLDER_VARIABLE)
        yield from (Path(configured), self._folder) if configured else (self._folder,)
        if _is_embedded():
            yield None

    def _load_or_fetch(self) -> "HarmonyEncoding | None":
        encoding = self.load()
        with self._loading:
            if encoding is not None or self._fetching is not None:
                return encoding
            # A daemon: the end of a session does not wait for it either.
            self._fetching = threading.Thread(target=self._fetch_quietly, name="harmony-vocabulary", daemon=True)
        logger.warning(
            "[TOKEN_ACCOUNTING] vLLM gives no token counts, and the vocabulary to count them is not there yet: replies"
            " go without usage until %s are in %s. They are now fetched from %s; without internet put them there by"
            " hand, or name their folder in %s.",
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
    """The vocabulary of this process: 100 MB once loaded, and the same for every server."""
    return Vocabulary()


def _load_from(folder: Path | None) -> "HarmonyEncoding | None":
    """The encoding from the files in a folder, which openai-harmony checks, or from the package itself."""
    # 0.1 s, which most servers never make anybody pay.
    from openai_harmony import HarmonyEncodingName, HarmonyError, load_harmony_encoding

    # Without the variable openai-harmony would download the files itself, and the whole process would wait.
    with _environment, _folder_in_environment(folder):
        try:
            return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
        except HarmonyError:
            return None


@contextmanager
def _folder_in_environment(folder: Path | None) -> Iterator[None]:
    """The environment with this folder in it, or with none, as long as the block runs."""
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
    """Whether `openai_harmony` is that of oss-harmony; of two that are installed, one has overwritten the other."""
    try:
        files = metadata.distribution("oss-harmony").files or []
        return any(file.size == Path(file.locate()).stat().st_size for file in files if file.match(LIBRARY))
    except (metadata.PackageNotFoundError, OSError):
        return False


@contextmanager
def _fetch_lock(lock: Path) -> Iterator[bool]:
    """Whether this process is the one that fetches. A lock that a killed process left behind is taken over."""
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
    """Whoever looks sees the whole file or none: it gets its name when its checksum is right."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with part.open("wb") as stream:
            stream.writelines(_read(url, deadline))
        if not _is_valid(part, CHECKSUMS[file.name]):
            raise OSError(f"{url} is not the file it should be: its checksum is wrong")
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
    home = os.path.expanduser("~")  # noqa: PTH111 - it never fails
    return str(folder).replace(home, "~", 1) if str(folder).startswith(home + os.sep) else str(folder)
