"""Examine one vLLM provider: its config, then its server, as far as that can be reached."""

from collections.abc import AsyncIterator
from dataclasses import replace

from amplifier_core.llm_errors import ConfigurationError

from .._config import Config
from .._config_reading import read_config, unknown_keys
from .._secrets import Secrets, shorten
from .._server import Server
from .configured import COMMAND_LINE, Instance, effective_settings, hide_user
from .findings import Examination, Finding, Outcome, fail, note, remedy_for
from .model_checks import check_model
from .question import without_retries
from .reachability import check_reachability, transport_to
from .report import Report


async def examine(instance: Instance, examination: Examination, report: Report) -> None:
    """Fill in the examination, and report each finding as it is made."""
    try:
        config = read_config(instance.config, instance.environment)
        transport = transport_to(config)
    except (ConfigurationError, ValueError) as error:
        report.begin(examination)
        finding = fail("config", hide_user(str(error)), _correction(instance, error))
        _record(finding, instance.secrets, examination, report)
        return
    secrets = instance.secrets | transport.secrets()
    examination.url = secrets.hide(transport.url)
    examination.settings = list(effective_settings(instance, config))
    report.begin(examination)
    server = Server(transport, without_retries(config))
    try:
        async for finding in _findings(instance, server, config, examination):
            _record(finding, secrets, examination, report)
    finally:
        await transport.close()


def _correction(instance: Instance, error: Exception) -> str:
    """What to correct: what the error names, or the URL where it was stated."""
    if isinstance(error, ConfigurationError):
        return remedy_for(error)
    source = instance.sources.get("base_url")
    if source == COMMAND_LINE:
        return "give the URL with its scheme: `amplifier-vllm doctor http://localhost:8000`"
    return f"correct `base_url` in {source}" if source else "correct VLLM_BASE_URL"


def _record(finding: Finding, secrets: Secrets, examination: Examination, report: Report) -> None:
    """Record a finding as it may be shown: it quotes the config, the server, and whatever answers in its place."""
    remedy = None if finding.remedy is None else secrets.hide(finding.remedy)
    examination.findings.append(replace(finding, message=shorten(secrets.hide(finding.message)), remedy=remedy))
    report.add(examination.findings[-1])


async def _findings(
    instance: Instance, server: Server, config: Config, examination: Examination
) -> AsyncIterator[Finding]:
    """Each part only if the one before it left something to ask."""
    for finding in instance.findings:
        yield finding
    for sentence in unknown_keys(instance.config):
        yield note("config", sentence)
    (source,) = (setting.source for setting in examination.settings if setting.key == "api_key")
    reachable = True
    async for finding in check_reachability(server, source):
        reachable = reachable and finding.outcome is not Outcome.FAIL
        yield finding
    if reachable:
        async for finding in check_model(server, config):
            yield finding
