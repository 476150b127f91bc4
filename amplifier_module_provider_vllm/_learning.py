"""What a server's refusals teach about it: a model's window, and that it has no `/v1/responses`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from amplifier_core.llm_errors import ContextLengthError, InvalidRequestError, NotFoundError

from ._ask import Ask
from ._errors import overflow, restarting, to_llm_error, unknown_model
from ._refusals import is_empty_not_found, is_missing_path, leaves_no_room
from ._secrets import hidden_secrets
from ._server import Server
from ._sizes import RefusedBodyError


@asynccontextmanager
async def learning_from_refusals(server: Server, ask: Ask) -> AsyncGenerator[None]:
    """Remember what a refusal says, and add what we know to an error: the served models, the server's URL."""
    model = ask.options.model
    with hidden_secrets(lambda: server.transport.secrets(ask.options.extra_headers)):
        try:
            yield
        except RefusedBodyError as error:
            raise to_llm_error(error, model, server.transport.url) from error
        except ContextLengthError as error:
            server.learn(model, error)
            raise
        except InvalidRequestError as error:
            await _lacks_responses(server, ask, error)
            if ask.options.endpoint == "completions" and leaves_no_room(error):
                raise overflow(error) from error
            raise
        except NotFoundError as error:
            if await _lacks_responses(server, ask, error):
                raise
            served = [card.id for card in server.cards]
            # A reply that goes on by its token ids can do so by its items at once.
            if is_empty_not_found(error) and not ask.is_exact and (model in served or server.config.startup_timeout):
                raise restarting(error) from error
            server.outdated = model in served and not is_missing_path(error)
            if served and model not in served:
                raise unknown_model(error, served) from error
            raise


async def _lacks_responses(server: Server, ask: Ask, error: NotFoundError | InvalidRequestError) -> bool:
    """Remember that the server turned out to have no `/v1/responses`; False if the call may go to no other endpoint."""
    if ask.options.endpoint != "responses" or server.config.stated_endpoint is not None:
        return False
    if is_missing_path(error) or (is_empty_not_found(error) and await server.lacks_responses()):
        server.has_responses = False
    return not server.has_responses
