"""The servers of the live tests, and the servers that each test needs."""

import pytest

from bench.prefix_cache import RETAINING
from tests.rig.launch import Launch
from tests.rig.prompts import RENDERING

KEY = "sk-the-right-key-5d0c"

QWEN = Launch("tiny-qwen3")
GPT_OSS = Launch("tiny-gpt-oss")

# They store replies, render prompts to tokens, and cache all of them.
STORING_QWEN = Launch("tiny-qwen3", store=True, extra_flags=RENDERING)
STORING_GPT_OSS = Launch("tiny-gpt-oss", store=True, extra_flags=RETAINING)

LOCKED = Launch("tiny-qwen3", api_key=KEY)
WITHOUT_PARSERS = Launch("tiny-qwen3", parsers=False)
WITHOUT_REASONING_PARSER = Launch(
    "tiny-qwen3", parsers=False, extra_flags=("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
)
WITHOUT_TOOL_PARSER = Launch("tiny-qwen3", parsers=False, extra_flags=("--reasoning-parser", "qwen3"))
LOCKED_AND_BARE = Launch("tiny-qwen3", parsers=False, api_key=KEY, extra_flags=("--no-enable-prefix-caching",))

ORDER = (
    LOCKED,
    WITHOUT_PARSERS,
    WITHOUT_REASONING_PARSER,
    WITHOUT_TOOL_PARSER,
    LOCKED_AND_BARE,
    STORING_QWEN,
    QWEN,
    GPT_OSS,
    STORING_GPT_OSS,
)
"""The order of use. A test with two servers needs neighbours in this order."""


def needs(item: pytest.Item) -> set[Launch]:
    """The servers that a test needs: its fixtures are parametrised with them."""
    match item:
        case pytest.Function(callspec=parametrised):
            return {value for value in parametrised.params.values() if isinstance(value, Launch)}
        case _:
            return set()
