"""Train a tiny model's weights again, with vLLM's Python."""

import subprocess
from pathlib import Path

from tests.rig.environment import ensure_environment
from tests.rig.home import CHECKOUT, foreign_free_environment, home
from tests.rig.models import WEIGHTS, tiny_model

SCRIPTS = {"tiny-qwen3": "tests.rig.training.make_qwen", "tiny-gpt-oss": "tests.rig.training.make_gpt_oss"}


def train(model: str, seconds: int | None, out: Path | None) -> int:
    """Weights in the shipped form, in a folder of their own: looked at first, then copied over the shipped ones."""
    tiny_model(model)
    folder = home() / "trained" / model if out is None else out.absolute()
    command = [str(ensure_environment() / "python"), "-m", SCRIPTS[model], str(folder)]
    if seconds is not None:
        command += ["--seconds", str(seconds)]
    status = subprocess.run(  # noqa: S603 - our own command
        command, cwd=CHECKOUT, env=foreign_free_environment() | {"HF_HUB_OFFLINE": "1"}
    ).returncode
    if status == 0:
        print(f"To ship them, copy {folder} over {WEIGHTS / model}.")
    return status
