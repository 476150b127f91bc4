"""Token-in at its edges: what may not leave this server, other stops, discarded replies, gateways, many conversations."""

from tests.support.token_server import Sampled, TokenServer
from tests.support.token_session import said, token_session

ANSWER = Sampled("It is 17 degrees.")


async def test_another_server_that_tokenizes_gets_no_header_of_this_one() -> None:
    server, other = TokenServer([ANSWER, ANSWER], tokenizes=False), TokenServer([])
    async with other() as tokenizer:
        headers = {"X-Gateway-Key": "secret"}
        config = {"token_in": True, "tokenize_url": tokenizer.base_url, "extra_headers": headers}
        async with token_session(server, **config) as session:
            await session.ask(said("Weather?"))
            await session.ask(said("And tomorrow?"))

    assert session.exact == [True]
    assert [request.headers.get("x-gateway-key") for request in tokenizer.requests] == [None] * other.tokenized
