"""vLLM as a provider of Microsoft Amplifier."""

from ._keywords import CallKeywords
from ._mount import mount, on_session_ready
from ._provider import VLLMProvider

__all__ = ["CallKeywords", "VLLMProvider", "mount", "on_session_ready"]

__amplifier_module_type__ = "provider"
