"""Ask vLLM's own request models whether they take a request: no server, no GPU, one process for as many as there are.

`python -m tests.rig.vllm_protocol`, run by vLLM's Python, reads an endpoint and a JSON body a line and answers each
with a line: nothing for one that is taken, else what is wrong with it.
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
PACKAGE = "vllm.entrypoints.openai"
MODELS = {
    "responses": (f"{PACKAGE}.responses.protocol", "ResponsesRequest"),
    "chat": (f"{PACKAGE}.chat_completion.protocol", "ChatCompletionRequest"),
    "completions": (f"{PACKAGE}.completion.protocol", "CompletionRequest"),
}


class Protocol:
    """A process that has vLLM's request models loaded."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests = requests
        self._answers = answers

    def objection(self, body: Mapping[str, Any], endpoint: str) -> str | None:
        """vLLM's validation error for this body at this endpoint, or None."""
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()  # as the SDK does; raises for a lone surrogate
        self._requests.write(json.dumps([endpoint, body]) + "\n")
        self._requests.flush()
        objection: str | None = json.loads(self._answers.readline())
        return objection


@contextmanager
def vllm_protocol() -> Iterator[Protocol]:
    """vLLM's request models, for as long as the block runs."""
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
        assert line, "vLLM's request models could not be loaded"
        yield Protocol(process.stdin, process.stdout)
        process.stdin.close()


def main() -> None:
    models = {name: vars(importlib.import_module(module))[model] for name, (module, model) in MODELS.items()}
    refusals = (ValueError, importlib.import_module("vllm.exceptions").VLLMValidationError)
    print(READY, flush=True)
    for line in sys.stdin:
        try:
            endpoint, body = json.loads(line)
            models[endpoint].model_validate_json(json.dumps(body))
            objection = None
        except refusals as error:
            objection = str(error)
        print(json.dumps(objection), flush=True)


if __name__ == "__main__":
    main()
