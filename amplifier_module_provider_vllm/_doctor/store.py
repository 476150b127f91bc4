"""Check whether the server keeps replies, and whether that is what the config counts on."""

from amplifier_core.llm_errors import InvalidRequestError, NotFoundError

from .._ask import StoredReply
from .._limits import pick_model
from .._server import Server
from .asking import ask
from .findings import Finding, fail, ok

SWITCH = "start vLLM with VLLM_ENABLE_RESPONSES_API_STORE=1 in its environment, or leave `enable_state` out"


async def store(server: Server, *, wanted: bool) -> Finding:
    """vLLM takes `store: true` without a store too: only a second request tells."""
    try:
        heard = await ask(server, "What is the capital of France?", store=True)
        previous = StoredReply(heard.turn.response_id or "", items=0)
        await ask(server, "What is the capital of Japan?", store=True, stored=previous)
    except (NotFoundError, InvalidRequestError):
        if wanted:
            return fail("store", "off: the server keeps no replies, but `enable_state` counts on them", SWITCH)
        return ok("store", "off, and not needed")
    if not wanted:
        return ok("store", "on, though nothing uses it: `enable_state` is not set")
    model = pick_model(server.config.default_model, server.cards, server.transport.url)
    calls = (
        ""
        if not server.family(model).forgets_stored_calls
        else "; turns with tool calls are sent whole, vLLM forgets those calls"
    )
    return ok("store", f"on, and used{calls}")
