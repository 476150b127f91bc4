"""Ask vLLM's own request model whether it takes a request: no server, no GPU, one process for as many as there are.

`python -m tests.rig.vllm_protocol`, run by vLLM's Python, reads a JSON body a line and answers each with a line:
nothing for one that is taken, else what is wrong with it.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from tests.rig.environment import ensure_environment
from tests.rig.home import CHECKOUT, foreign_free_environment

READY = "ready"
MODEL = "vllm.entrypoints.openai.responses.protocol"


class Protocol:
    """A process that has vLLM's request model loaded."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests = requests
        self._answers = answers

    def objection(self, body: Mapping[str, Any]) -> str | None:
        """vLLM's validation error for this body of /v1/responses, or None."""
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()  # as the SDK does; raises for a lone surrogate
        self._requests.write(json.dumps(body) + "\n")
        self._requests.flush()
        objection: str | None = json.loads(self._answers.readline())
        return objection


@contextmanager
def vllm_protocol() -> Iterator[Protocol]:
    """vLLM's request model, for as long as the block runs."""
    command = [str(ensure_environment() / "python"), "-m", "tests.rig.vllm_protocol"]
    with subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=CHECKOUT,
        env=foreign_free_environment() | {"VLLM_LOGGING_LEVEL": "ERROR"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while (line := process.stdout.readline()) not in (f"{READY}\n", ""):
            continue
        assert line, "vLLM's request model could not be loaded"
        yield Protocol(process.stdin, process.stdout)
        process.stdin.close()


def main() -> None:
    model = importlib.import_module(MODEL).ResponsesRequest
    refusals = (ValueError, importlib.import_module("vllm.exceptions").VLLMValidationError)
    print(READY, flush=True)
    for line in sys.stdin:
        try:
            model.model_validate_json(line)
            objection = None
        except refusals as error:
            objection = str(error)
        print(json.dumps(objection), flush=True)


if __name__ == "__main__":
    main()
