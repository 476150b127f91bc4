"""Check that a server tells the token ids of its calls, and goes on from those that a session sends."""

from typing import Final

from amplifier_core.message_models import Message

from .._ask import Ask, to_prompt_items
from .._config import Config
from .._server import Server
from .._token_event import token_payload
from .findings import WITHOUT_GATEWAY, Finding, fail, note, ok
from .question import Answer, question, send

GREETING: Final = "Say hello."
GET_VLLM: Final = "use vLLM 0.32 or newer, without a gateway that drops `return_token_ids` and `kv_transfer_params`"
PROCESSED: Final = "for training, start vLLM with `--logprobs-mode processed_logprobs`"


async def check_tokens(server: Server, config: Config) -> Finding:
    """Ask twice, as a session with `return_token_ids` or `token_in` would."""
    first = await question(server, GREETING)
    answer = await send(server, first)
    payload = token_payload(first, answer.turn, ())
    if payload is None:
        return fail("token ids", "the server tells no token ids: there is no `llm:tokens` of its replies", GET_VLLM)
    if payload["logprobs"] is None:
        return note("token ids", "the server tells token ids, but not one log probability for each", WITHOUT_GATEWAY)
    if config.token_in and not await _goes_on(server, first, answer):
        return fail("token ids", "the server does not go on from token ids: `token_in` has no effect", GET_VLLM)
    how = "and goes on from those of a session" if config.token_in else "with their log probabilities"
    if config.temperature not in (None, 1.0):
        message = f"the server tells token ids, {how}; log probabilities are those of temperature 1 by default"
        return note("token ids", message, PROCESSED)
    return ok("token ids", f"the server tells token ids, {how}")


async def _goes_on(server: Server, first: Ask, answer: Answer) -> bool:
    """Whether the prompt of a second question begins with the tokens of the first one and its reply."""
    server.chains.remember(first, [*to_prompt_items(answer.turn.items)], answer.turn)
    history = [Message(role="user", content=GREETING), Message(role="assistant", content=answer.text)]
    second = await question(server, "And once more.", history=history)
    turn = (await send(server, second)).turn
    before, after = answer.turn.tokens, turn.tokens
    return before is not None and after is not None and after.prompt[: len(before.all)] == before.all
