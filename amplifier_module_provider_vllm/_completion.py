"""One completion, from the request to the reply, in the order it happens."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from amplifier_core.llm_errors import InvalidRequestError, InvalidToolCallError, LLMTimeoutError, StreamError
from amplifier_core.message_models import ChatRequest, ChatResponse, Degradation

from ._constants import PROVIDER
from ._continuation import corrected, summed
from ._errors import says_blind, speaks_of_format, speaks_of_images
from ._observability import ObservedCall
from ._options import CallOptions, decide_options, first_set
from ._response_handling import to_response
from ._responses.encode import Encoded, encode_request
from ._responses.fold import retold
from ._rounds import Rounds
from ._server import Server
from ._tool_markup import recover_calls
from ._tool_repair import Repaired, repair_tool_sequence
from ._turn import Turn


class Completion:
    """One call of `complete()`."""

    def __init__(self, server: Server, call: ObservedCall, request: ChatRequest, overrides: Mapping[str, Any]) -> None:
        self._server = server
        self._config = server.config
        self._call = call
        self._request = request
        self._overrides = overrides
        self._rounds = Rounds(server, call)

    async def run(self) -> ChatResponse:
        timeout = first_set(self._overrides.get("timeout"), self._request.timeout, self._config.timeout)
        deadline = asyncio.timeout(timeout)
        async with self._call:
            try:
                async with deadline:
                    return await self._answer()
            except TimeoutError as error:
                if not deadline.expired():
                    raise
                said = f"no reply within the timeout of {timeout} s"
                raise LLMTimeoutError(said, provider=PROVIDER, model=self._call.model) from error

    async def prepared(self) -> tuple[CallOptions, Repaired, Encoded]:
        """The request as the server will be asked it."""
        options = self._options(await self._rounds.retried(self._model))
        repaired = repair_tool_sequence(self._request.messages)
        return options, repaired, encode_request(repaired.messages, self._request, options)

    async def _answer(self) -> ChatResponse:
        options, repaired, encoded = await self.prepared()
        await self._call.requested(options, encoded.params)
        await self._call.repaired(repaired)
        turn = await self._turn(encoded, options)
        try:
            response = self._response(turn, encoded, options)
        except InvalidToolCallError as error:
            turn = await self._corrected(turn, encoded, options, error)
            response = self._response(turn, encoded, options)
        self._call.answered(response, turn.said)
        return response

    async def _model(self) -> str:
        asked = first_set(self._overrides.get("model"), self._request.model, self._config.default_model)
        return await self._server.model(asked)

    def _options(self, model: str) -> CallOptions:
        limits = self._server.limits(model)
        options = decide_options(
            self._request,
            self._overrides,
            self._config,
            model=model,
            harmony=self._server.harmony(model),
            advertised_output=limits.max_output_tokens if limits.known else None,
        )
        return replace(options, vision=False) if model in self._server.blind else options

    async def _turn(self, encoded: Encoded, options: CallOptions) -> Turn:
        turn = await self._accepted(encoded, options)
        recovered = recover_calls(turn, [tool["name"] for tool in encoded.params.get("tools", ()) if "name" in tool])
        if recovered.warning is not None:
            self._server.warn_once(recovered.warning)
        if recovered.turn is not turn:
            await self._call.stream.abort(StreamError("the reply's text held tool calls; it is told again with them"))
            await self._call.stream.show(retold(recovered.turn.items))
        return recovered.turn

    async def _accepted(self, encoded: Encoded, options: CallOptions) -> Turn:
        """The reply, to less than was asked for where the server refuses a part of it that can be done without."""
        while True:
            try:
                return await self._rounds.reply(encoded.params, options)
            except InvalidRequestError as error:
                if not self._degraded(encoded, options, error):
                    raise

    def _degraded(self, encoded: Encoded, options: CallOptions, error: InvalidRequestError) -> bool:
        """Whether there was something in the request that the server will not take and the reply can do without."""
        if "text" in encoded.params and speaks_of_format(error):
            asked = encoded.params.pop("text")["format"]["type"]
            encoded.degradations.append(Degradation(requested=asked, actual="text", reason=str(error)))
            return True
        shown = options.vision and not any(one.requested == "image" for one in encoded.degradations)
        if not shown or not speaks_of_images(error):
            return False
        if says_blind(error):
            self._server.blind.add(options.model)
        messages = repair_tool_sequence(self._request.messages).messages
        without = encode_request(messages, self._request, replace(options, vision=False))
        encoded.params["input"] = without.params["input"]
        encoded.degradations.append(Degradation(requested="image", actual="text", reason=str(error)))
        return True

    def _response(self, turn: Turn, encoded: Encoded, options: CallOptions) -> ChatResponse:
        try:
            return to_response(turn, self._request.tools or [], self._config.rates, encoded.degradations)
        except InvalidToolCallError as error:
            error.model = options.model
            raise

    async def _corrected(self, turn: Turn, encoded: Encoded, options: CallOptions, error: InvalidToolCallError) -> Turn:
        """The one round in which the model may mend a call that cannot be run."""
        await self._call.stream.abort(error)
        wrong = (error.tool_name, error.raw_arguments)
        call = next(call for call in turn.calls if (call.name, call.arguments) == wrong)
        told = f"Error: {error}. Call it again."
        params = corrected(encoded.params, turn, call, told, harmony=options.harmony)
        second = await self._turn(Encoded(params, encoded.degradations), options)
        return replace(second, usage=summed(turn.usage, second.usage))
