"""Ask a model behind vLLM through a real Amplifier session, and watch its answer arrive.

Without VLLM_BASE_URL the server is a real vLLM with a tiny model, installed and started for the purpose.
"""

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amplifier_core.llm_errors import LLMError

from examples._rendering import FAILURE, FIGURES, QUESTION, Renderer, console_for_stdout
from tests.rig.home import LiveRigError
from tests.support.session import SessionError, open_session, vllm

TINY_MODEL = "tiny-qwen3"
INTERRUPTED = 130


def main() -> int:
    arguments = _arguments()
    renderer = Renderer(console_for_stdout())
    # The kernel's log of a failure is replaced by one line below.
    logging.getLogger("amplifier_core").addHandler(logging.NullHandler())
    try:
        with _server({"endpoint": arguments.endpoint}) as provider:
            asyncio.run(_show(arguments.question, provider, renderer))
    except (LLMError, LiveRigError, SessionError) as error:
        renderer.line("failed", str(error), FAILURE)
        return 1
    except KeyboardInterrupt:
        renderer.line("stopped", "interrupted from the keyboard", FAILURE)
        return INTERRUPTED
    return 0


async def _show(question: str, provider: dict[str, Any], renderer: Renderer) -> None:
    renderer.line("question", question, QUESTION)
    async with open_session(provider, tools=["get_weather"], listener=renderer) as session:
        started = time.perf_counter()
        await session.ask(question)
        seconds = time.perf_counter() - started
    renderer.line("", f"{renderer.totals}, {seconds:.1f} s", FIGURES)


@contextmanager
def _server(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The mount plan's entry for the user's server, or for one that runs as long as it is needed."""
    if own := os.environ.get("VLLM_BASE_URL"):
        model = os.environ.get("VLLM_MODEL")
        yield vllm(own, **config, **({"default_model": model} if model else {}))
        return
    from tests.rig.server import serve_model  # its requirements are not needed with the user's own server

    with serve_model(TINY_MODEL) as server:
        yield vllm(server.base_url, default_model=server.model, api_key="EMPTY", temperature=0, **config)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Ask a model behind vLLM about the weather.")
    parser.add_argument("--endpoint", choices=["auto", "responses", "chat", "completions"], default="auto")
    parser.add_argument("question", nargs="?", default="What is the weather in Paris?")
    return parser.parse_args()


if __name__ == "__main__":
    ended = main()
    sys.stdout.flush()
    # A thread of amplifier-core may still be on its way out when the interpreter goes, which aborts a finished program.
    os._exit(ended)
