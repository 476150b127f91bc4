"""The Amplifier module `hooks-vllm-tokens`.

A package of its own, because the kernel finds the module of a `source:` by the name of its folder.
"""

from amplifier_module_provider_vllm.rl.tokens_hook import mount

__all__ = ["mount"]

__amplifier_module_type__ = "hook"
