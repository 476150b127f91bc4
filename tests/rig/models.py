"""The tiny models: what vLLM must be told about each, and their folders, put together from the shipped weights."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.rig.commands import run_logged
from tests.rig.home import LiveRigError, home, tail
from tests.rig.locks import hold_lock
from tests.rig.memory import GIB
from tests.rig.progress import Progress

WEIGHTS = Path(__file__).with_name("weights")
ASSEMBLY = Path(__file__).with_name("training")


@dataclass(frozen=True)
class TinyModel:
    """One model of the rig and the flags that make vLLM parse its replies."""

    name: str
    port: int
    dtype: str
    parser_flags: tuple[str, ...]
    memory: int
    """The most that a server of it needs, in bytes: measured, and rounded up."""
    assembled_by: str | None = None
    """The script that completes the shipped weights, run by vLLM's Python; None: they are complete."""


TINY_MODELS = {
    model.name: model
    for model in (
        TinyModel(
            name="tiny-qwen3",
            port=8101,
            dtype="float32",
            parser_flags=("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3"),
            memory=2 * GIB,
        ),
        TinyModel(
            name="tiny-gpt-oss",
            port=8102,
            dtype="bfloat16",
            parser_flags=(
                "--enable-auto-tool-choice",
                "--tool-call-parser",
                "openai",
                "--reasoning-parser",
                "openai_gptoss",
            ),
            memory=3 * GIB,
            assembled_by="tests.rig.training.assemble_gpt_oss",
        ),
    )
}


def tiny_model(name: str) -> TinyModel:
    if name not in TINY_MODELS:
        raise LiveRigError(f"there is no tiny model {name!r}; choose from {', '.join(TINY_MODELS)}")
    return TINY_MODELS[name]


def model_folder(model: TinyModel) -> Path:
    return home() / "models" / model.name


def ensure_model(model: TinyModel, vllm_bin: Path) -> Path:
    """The folder to serve; put together on first use, again when the shipped weights change."""
    folder = model_folder(model)
    stamp = folder / "built-from"
    wanted = fingerprint(model)
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    lock_file = home() / "models" / f"{model.name}.lock"
    with Progress(f"another process is making {model.name}") as waiting, hold_lock(lock_file, waiting.tick) as lock:
        if not (stamp.exists() and stamp.read_text() == wanted):
            unfinished = folder.with_name(f".{model.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            _fill(unfinished, model, vllm_bin, lock)
            (unfinished / stamp.name).write_text(wanted)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.replace(folder)
    return folder


def fingerprint(model: TinyModel) -> str:
    """Changes with the weights, and with the scripts that complete them."""
    sources = sorted((WEIGHTS / model.name).iterdir())
    if model.assembled_by is not None:
        sources += [ASSEMBLY / "assemble_gpt_oss.py", ASSEMBLY / "harmony_tokenizer.py"]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + b"\0" + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


def _fill(folder: Path, model: TinyModel, vllm_bin: Path, lock: int) -> None:
    if model.assembled_by is None:
        shutil.copytree(WEIGHTS / model.name, folder)
        return
    log = home() / "models" / f"{model.name}.log"
    log.unlink(missing_ok=True)
    with Progress(f"putting {model.name} together from its shipped weights") as progress:
        command = [str(vllm_bin / "python"), "-m", model.assembled_by, str(WEIGHTS / model.name), str(folder)]
        if run_logged(command, log, progress, holding=lock) != 0:
            raise LiveRigError(f"{model.name} could not be put together; the end of {log}:\n{tail(log)}")
