"""Names and numbers that more than one module uses."""

from typing import Final

PROVIDER: Final = "vllm"
"""Where the provider mounts itself; the kernel renames the mount of an instance, never the provider."""

DEFAULT_BASE_URL: Final = "http://localhost:8000/v1"
"""Where `vllm serve` listens when nobody says otherwise."""

NO_API_KEY: Final = "EMPTY"
"""What the OpenAI SDK is given for a server without a key; it refuses an empty one."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to open a connection, and how long a server that refuses it is tried again."""

PROBE_TIMEOUT: Final = 3.0
"""Seconds that a question of our own, about models or token counts, may delay a session or a call."""

ANSWER_TIMEOUT: Final = 10.0
"""Seconds for an answer that somebody sits waiting for, as with `/provider test` and the doctor."""

FALLBACK_CONTEXT_WINDOW: Final = 128_000
"""Advertised in tokens while the server has not said what it takes."""

FALLBACK_MAX_OUTPUT_TOKENS: Final = 32_768
"""Advertised in tokens while the server has not said what it takes."""
