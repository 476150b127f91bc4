"""The command: `amplifier-vllm doctor [URL]`, also `python -m amplifier_module_provider_vllm doctor`."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amplifier_core.llm_errors import LLMError

from .._config import read_config
from .._constants import DEFAULT_BASE_URL
from .._server import Server
from .._transport import Transport, normalized_url
from .findings import Finding, Outcome, fail
from .reach import reach
from .report import JsonReport, PlainReport, Report, works
from .settings import Instance, configured, read_instances
from .talk import talk
from .vocabulary import vocabulary


def main(arguments: Sequence[str] | None = None) -> int:
    """0 only if a session would work, 1 if it would not, 2 for a command that makes no sense."""
    asked = _parser().parse_args(arguments)
    logging.disable(logging.CRITICAL)  # what the provider would log is among the findings
    try:
        instances = read_instances(asked.config) if asked.config else [Instance("vllm", _from_command(asked))]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"amplifier-vllm: cannot read {asked.config}: {error}\n")
        return 2
    if not instances:
        sys.stderr.write(f"amplifier-vllm: {asked.config} has no provider with `module: provider-vllm`\n")
        return 2
    try:
        return asyncio.run(_examine(instances, _report(as_json=asked.json)))
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="amplifier-vllm", description="Amplifier's provider for vLLM.")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="find out why a session with a vLLM server does not work")
    doctor.add_argument("url", nargs="?", help=f"the server; else VLLM_BASE_URL, else {DEFAULT_BASE_URL}")
    doctor.add_argument("--config", type=Path, metavar="FILE", help="check every vLLM provider of a YAML or TOML file")
    doctor.add_argument("--model", help="the model to ask; needed where the server has several")
    doctor.add_argument("--json", action="store_true", help="print findings as JSON")
    return parser


def _from_command(asked: argparse.Namespace) -> dict[str, Any]:
    given = {"base_url": asked.url, "default_model": asked.model}
    return {key: value for key, value in given.items() if value is not None}


def _report(*, as_json: bool) -> Report:
    if as_json:
        return JsonReport()
    if not sys.stdout.isatty():
        return PlainReport()
    try:
        from .rich_report import RichReport  # an extra
    except ModuleNotFoundError:
        return PlainReport()
    return RichReport()


async def _examine(instances: Sequence[Instance], report: Report) -> int:
    findings: list[Finding] = []
    for instance in instances:
        async for finding in _findings(instance.config, instance.name, report):
            report.found(finding)
            findings.append(finding)
    report.end(findings)
    return 0 if works(findings) else 1


async def _findings(given: Mapping[str, Any], name: str, report: Report) -> AsyncIterator[Finding]:
    try:
        read = read_config(given, os.environ)
        url = normalized_url(read.base_url or DEFAULT_BASE_URL)
    except (LLMError, ValueError) as error:
        report.heading(name)
        yield fail("config", str(error), "correct that key")
        return
    server = Server(Transport(url, read.api_key.get_secret_value(), read.extra_headers, None), read)
    report.heading(f"{name}: {server.transport.url}")
    for setting in configured(given, read):
        yield setting
    reached = True
    async for finding in reach(server):
        reached = reached and finding.outcome is not Outcome.FAIL
        yield finding
    if reached:
        async for finding in talk(server):
            yield finding
        async for finding in vocabulary(server):
            yield finding
    await server.transport.close()
