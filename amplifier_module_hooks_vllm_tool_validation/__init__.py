"""The Amplifier module `hooks-vllm-tool-validation`.

A package of its own, because the kernel finds the module of a `source:` by the name of its folder.
"""

from amplifier_module_provider_vllm.rl.tool_validation import mount

__all__ = ["mount"]

__amplifier_module_type__ = "hook"
