"""Examine one vLLM provider: its config, then its server, as far as that can be reached."""

import os
from collections.abc import AsyncIterator

from amplifier_core.llm_errors import ConfigurationError

from .._config import Config, read_config, unknown_keys
from .._server import Server
from .configured import Instance, in_effect, without_user
from .findings import Examination, Finding, Outcome, fail, note
from .model_checks import talk
from .question import once
from .reachability import reach, transport_to
from .report import Report


async def examine(instance: Instance, examined: Examination, report: Report) -> None:
    """Fill in the examination, and report each finding as it is made."""
    try:
        config = read_config(instance.config, os.environ)
        transport = transport_to(config)
    except (ConfigurationError, ValueError) as error:
        report.opened(examined)
        _note_down(fail("config", without_user(str(error)), "correct that key"), examined, report)
        return
    examined.url = transport.url
    examined.settings = list(in_effect(instance.config, instance.sources, config, os.environ))
    report.opened(examined)
    server = Server(transport, once(config))
    try:
        async for finding in _findings(instance, server, config, examined):
            _note_down(finding, examined, report)
    finally:
        await transport.close()


def _note_down(finding: Finding, examined: Examination, report: Report) -> None:
    examined.findings.append(finding)
    report.found(finding)


async def _findings(
    instance: Instance, server: Server, config: Config, examined: Examination
) -> AsyncIterator[Finding]:
    """Each part only if the one before it left something to ask."""
    for finding in instance.findings:
        yield finding
    for sentence in unknown_keys(instance.config):
        yield note("config", sentence)
    (source,) = (setting.source for setting in examined.settings if setting.key == "api_key")
    reached = True
    async for finding in reach(server, source):
        reached = reached and finding.outcome is not Outcome.FAIL
        yield finding
    if reached:
        async for finding in talk(server, store_wanted=config.enable_state):
            yield finding
