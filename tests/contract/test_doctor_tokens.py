"""The doctor of a session that wants token ids: whether the server tells them, and goes on from them."""

import pytest

from amplifier_module_provider_vllm._config_reading import read_config
from amplifier_module_provider_vllm._doctor.findings import Outcome
from amplifier_module_provider_vllm._doctor.question import without_retries
from amplifier_module_provider_vllm._doctor.reachability import transport_to
from amplifier_module_provider_vllm._doctor.token_checks import check_tokens
from amplifier_module_provider_vllm._server import Server
from tests.support.token_server import Sampled, TokenServer

pytestmark = pytest.mark.usefixtures("clean_environment")

HELLO = Sampled("Hello.")


@pytest.mark.parametrize(
    ("server", "config", "outcome", "words"),
    [
        (TokenServer([HELLO]), {"return_token_ids": True}, Outcome.OK, "with their log probabilities"),
        (TokenServer([HELLO, HELLO]), {"token_in": True}, Outcome.OK, "goes on from those of a session"),
        (TokenServer([HELLO], tells_ids=False), {"token_in": True}, Outcome.FAIL, "tells no token ids"),
        (TokenServer([HELLO, HELLO], drifts=True), {"token_in": True}, Outcome.FAIL, "does not go on from token ids"),
        (TokenServer([HELLO]), {"return_token_ids": True, "temperature": 0.5}, Outcome.NOTE, "of temperature 1"),
    ],
    ids=["ids", "token-in", "no ids", "ids that are ignored", "raw log probabilities"],
)
async def test_what_a_session_with_token_ids_needs_is_checked(
    server: TokenServer, config: dict[str, object], outcome: Outcome, words: str
) -> None:
    async with server() as replay:
        read = without_retries(read_config({"base_url": replay.base_url, **config}, {}))
        asked = Server(transport_to(read), read)
        finding = await check_tokens(asked, read)
        await asked.close()

    assert finding.outcome is outcome
    assert words in finding.message
