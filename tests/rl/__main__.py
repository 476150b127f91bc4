"""Write the trajectories of real sessions, and have real readers read them: `make rl`."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from tests.rig.environment import ensure_environment
from tests.rig.home import LiveRigError
from tests.rig.models import ensure_model, tiny_model
from tests.rig.server import LiveServer, serve_model
from tests.rl.environments import CHECKOUT, ENVIRONMENTS
from tests.rl.runs import Outcome, Run, failed, report
from tests.rl.sessions import write_sessions

MODEL = "tiny-qwen3"
OUT = CHECKOUT / ".rl"
WRITTEN = OUT / "written"

# Name for people and environment of each module of tests/rl/readers.
READERS = {
    "harbor_atif": ("harbor", "312"),
    "verifiers_trace": ("verifiers", "312"),
    "lightning_server": ("Agent Lightning 1.0, server", "312"),
    "lightning_spans": ("Agent Lightning 0.3, adapters", "lightning-03"),
    "hf_datasets": ("datasets", "training"),
    "trl_sft": ("TRL, SFT step", "training"),
    "trl_grpo": ("TRL, GRPO step", "training"),
}


def main() -> int:
    shutil.rmtree(OUT, ignore_errors=True)
    WRITTEN.mkdir(parents=True)
    try:
        with serve_model(MODEL) as server:
            print(asyncio.run(write_sessions(server, WRITTEN)), flush=True)
            outcomes = [_shown(_rollouts(server))]
        model = ensure_model(tiny_model(MODEL), ensure_environment())
    except LiveRigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    outcomes += [_shown(_reader(module, model)) for module in READERS]
    print()
    print("\n".join(report(outcomes)))
    return 1 if failed(outcomes) else 0


def _reader(module: str, model: Path) -> Run:
    name, environment = READERS[module]
    arguments = (module, str(WRITTEN), str(model))
    return Run(name, ENVIRONMENTS[environment], "tests.rl.readers", arguments)


def _rollouts(server: LiveServer) -> Run:
    arguments = ("--vllm", server.base_url, "--model", server.model, "--folder", str(OUT / "rollouts"))
    return Run("Agent Lightning 1.0, rollouts", ENVIRONMENTS["312"], "examples.rl.rollouts", arguments)


def _shown(run: Run) -> Outcome:
    print(f"{run.reader} ...", flush=True)
    return run.outcome(OUT / f"{run.reader.replace(',', '').replace(' ', '-')}.log")


if __name__ == "__main__":
    ended = main()
    sys.stdout.flush()
    # A thread of amplifier-core may still be on its way out when the interpreter goes, which aborts a finished program.
    os._exit(ended)
