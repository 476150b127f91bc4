"""Names and numbers that more than one module uses."""

from typing import Final

PROVIDER: Final = "vllm"
"""The name the provider mounts under; the kernel renames the mount of an instance, never the provider."""

DEFAULT_BASE_URL: Final = "http://localhost:8000/v1"
"""The default address of `vllm serve`."""

NO_API_KEY: Final = "EMPTY"
"""The key for a server without one: the OpenAI SDK refuses an empty key."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to open a connection, and to retry a server that cannot be connected to."""

PROBE_TIMEOUT: Final = 3.0
"""Seconds that a probe, for models or token counts, may delay a session or a call."""

ANSWER_TIMEOUT: Final = 10.0
"""Seconds for an answer that a user waits for, as with `/provider test` and the doctor."""

FALLBACK_CONTEXT_WINDOW: Final = 128_000
"""Tokens; advertised until the server reports its limit."""

TOOL_VALIDATION: Final = "vllm-tool-validation"
"""What the name of the hook begins with by which our tool validation denies a call."""

UNKNOWN_TOOL: Final = "Error: unknown tool: "
INVALID_INPUT: Final = "Error: tool_name=<"
"""How the errors of our tool validation begin."""
