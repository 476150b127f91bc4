"""The command `amplifier-vllm doctor [URL]`: its arguments, and the report that fits the terminal."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._command import CommandError
from .._constants import DEFAULT_BASE_URL
from .configured import COMMAND_LINE, Instance, read_instances
from .examine import examine
from .findings import Examination
from .report import JsonReport, PlainReport, Report, works

INTERRUPTED = 130


def add_command(commands: Any) -> None:
    """Add the command to the parsers of all commands."""
    doctor = commands.add_parser(
        "doctor",
        help="find out why a session with a vLLM server does not work",
        description="Ask a vLLM server everything that a session would, and say which flag or key to change.",
        epilog="The key of URL is read from VLLM_API_KEY, unless VLLM_BASE_URL names another server. Exit status: 0 if"
        " a session would work, 1 if not, 2 for an invalid command, 130 if interrupted.",
    )
    subject = doctor.add_mutually_exclusive_group()
    subject.add_argument("url", nargs="?", metavar="URL", help=f"else VLLM_BASE_URL, else {DEFAULT_BASE_URL}")
    subject.add_argument("--config", type=Path, metavar="FILE", help="check every vLLM provider of an Amplifier file")
    doctor.add_argument("--model", metavar="NAME", help="the model to ask; required if the server has several")
    doctor.add_argument("--json", action="store_true", help="print everything as one JSON object")
    doctor.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 only if a session would work, 1 if not, 130 if interrupted. Raises `CommandError` for an unusable file."""
    try:
        instances = _instances(options)
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read {options.config}: {error}") from error
    if not instances:
        raise CommandError(f"{options.config} has no provider with `module: provider-vllm`")
    with _logging_disabled():
        return _run(instances, _report(as_json=options.json))


def _instances(options: argparse.Namespace) -> list[Instance]:
    instances = [Instance("vllm")] if options.config is None else read_instances(options.config)
    overrides = {"base_url": options.url, "default_model": options.model}
    stated = {key: value for key, value in overrides.items() if value is not None}
    # A command has no other place for the key of its URL.
    key = {} if options.url is None or os.environ.get("VLLM_BASE_URL") else {"api_key": os.environ.get("VLLM_API_KEY")}
    return [instance.with_settings(stated, COMMAND_LINE).with_settings(key, "VLLM_API_KEY") for instance in instances]


@contextmanager
def _logging_disabled() -> Generator[None]:
    """No log lines: the findings say the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _report(*, as_json: bool) -> Report:
    if as_json:
        return JsonReport()
    if not sys.stdout.isatty():
        return PlainReport()
    try:
        from rich.console import Console  # an extra

        from .rich_report import RichReport
    except ModuleNotFoundError:
        return PlainReport()
    return RichReport(Console(highlight=False))


def _run(instances: Sequence[Instance], report: Report) -> int:
    examinations: list[Examination] = []
    stopped = _is_interrupted(instances, examinations, report)
    report.end(examinations, stopped=stopped)
    if stopped:
        return INTERRUPTED
    return 0 if works(examinations, stopped=False) else 1


def _is_interrupted(instances: Sequence[Instance], examinations: list[Examination], report: Report) -> bool:
    """Examine all instances, unless the user interrupts that."""
    try:
        asyncio.run(_examine_all(instances, examinations, report))
    except KeyboardInterrupt:
        return True
    return False


async def _examine_all(instances: Sequence[Instance], examinations: list[Examination], report: Report) -> None:
    for instance in instances:
        examinations.append(Examination(instance.name))
        await examine(instance, examinations[-1], report)
