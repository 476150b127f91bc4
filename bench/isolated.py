"""Run each measurement in a fresh process, so that measurements do not influence each other."""

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, ParamSpec, TypeVar

from bench.contender import Contender

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class BrokenRunError(RuntimeError):
    """A contender did not receive what the server sent, so its figures would be meaningless."""


def run_isolated(measure: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, *args, **kwargs).result()


def run_in_its_environment(one: Contender, module: str, *args: str) -> Any:
    """The JSON on the last line that `python -m MODULE CONTENDER ARGUMENTS` prints, in the environment it needs."""
    command = [one.python, "-m", module, one.name, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BrokenRunError(f"{one.name}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
