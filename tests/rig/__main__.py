"""The live rig from the command line: python -m tests.rig setup|up|down|status|logs|train."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.rig.environment import ensure_environment
from tests.rig.home import LiveRigError, home, tail
from tests.rig.memory import GIB, used_bytes
from tests.rig.models import TINY_MODELS, ensure_model, tiny_model
from tests.rig.room import read_memory
from tests.rig.server import serve_models
from tests.rig.slots import all_slots
from tests.rig.training_run import train


def main() -> int:
    # Wait for the servers on any signal. A shell's background jobs ignore Ctrl+C by default.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        return _run(_parser().parse_args())
    except LiveRigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.rig", description="Real vLLM with two tiny models on this machine's CPU."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="install vLLM in its own environment and put the models together")
    up = commands.add_parser("up", help="serve until Ctrl+C")
    up.add_argument("models", nargs="*", metavar="model", help=f"{', '.join(TINY_MODELS)}; all when left out")
    up.add_argument("--detach", action="store_true", help="leave the servers running until `down`")
    commands.add_parser("down", help="stop what `up --detach` left running")
    commands.add_parser("status", help="what is built and what runs")
    logs = commands.add_parser("logs", help="the end of each model's latest log")
    logs.add_argument("--lines", type=int, default=30)
    training = commands.add_parser("train", help="make a model's weights again, from nothing")
    training.add_argument("model", choices=TINY_MODELS)
    training.add_argument("--seconds", type=int, help="how long; the shipped weights took 540 s and 420 s")
    training.add_argument("--out", type=Path, help="where to put the weights")
    return parser


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "setup":
            _set_up()
        case "up":
            return _up(options.models or list(TINY_MODELS), options.detach)
        case "down":
            _down()
        case "status":
            _status()
        case "logs":
            for slot in {slot.model: slot for slot in all_slots()}.values():
                print(f"== {slot.log}\n{tail(slot.log, options.lines)}\n")
        case "train":
            return train(options.model, options.seconds, options.out)
    return 0


def _set_up() -> None:
    vllm_bin = ensure_environment()
    print(f"vLLM    {vllm_bin.parent}")
    for model in TINY_MODELS.values():
        print(f"model   {ensure_model(model, vllm_bin)}")


def _up(models: Sequence[str], detach: bool) -> int:
    for model in models:
        tiny_model(model)
    with serve_models(models) as servers:
        for server in servers:
            server.slot.detach(detach or server.slot.is_detached())
            found = "started" if server.started else "was already up"
            print(f"{server.model} {server.base_url} (pid {server.pid}, {found})")
        if detach:
            print("Left running; `python -m tests.rig down` stops them.")
            return 0
        print("Ctrl+C stops them.")
        while all(server.slot.is_alive() for server in servers):
            time.sleep(1)
    print(f"error: a server has ended; see {home() / 'run'}", file=sys.stderr)
    return 1


def _down() -> None:
    for slot in (slot for slot in all_slots() if slot.is_detached()):
        lease = slot.take_lease()
        slot.detach(False)
        slot.drop_lease(lease)
        print(f"{slot.name} {'is still used by another process, and stops with it' if slot.is_alive() else 'stopped'}")


def _status() -> None:
    print(f"home {home()}")
    running = {slot: server for slot in all_slots() if (server := slot.running()) is not None}
    for slot, server in running.items():
        kept = "detached" if slot.is_detached() else "used by a running process" if slot.is_used() else "ending"
        age, used = time.time() - server.since, used_bytes(server.keeper) / GIB
        status = f"{server.base_url}, pid {server.server}, {used:.1f} GiB, up {age:.0f} s, {kept}"
        print(f"{slot.name}: {status}; log {slot.log}")
    if not running:
        print("nothing runs")
    print(f"room for {read_memory().room / GIB:.1f} GiB of new servers")


if __name__ == "__main__":
    sys.exit(main())
