"""The command `amplifier-vllm`, also `python -m amplifier_module_provider_vllm`: doctor, tokens."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from ._command import CommandError
from ._doctor import cli as doctor
from ._server_text import sanitize
from ._tokens import cli as tokens

DISTRIBUTION = "amplifier-module-provider-vllm"
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing is wrong, 1 if something is, 2 for an invalid command or an unreadable file, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except CommandError as error:
        sys.stderr.write(f"amplifier-vllm: {sanitize(str(error))}\n")
        return USAGE_ERROR
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing is left to flush
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="amplifier-vllm", description="Amplifier's provider for vLLM.")
    parser.add_argument("--version", action="version", version=f"amplifier-vllm {version(DISTRIBUTION)}")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor.add_command(commands)
    tokens.add_command(commands)
    return parser
