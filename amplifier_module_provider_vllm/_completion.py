"""One call of `complete()`, top to bottom: prompt, ask, reply, response."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from amplifier_core.llm_errors import (
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NotFoundError,
    ProviderUnavailableError,
    StreamError,
)
from amplifier_core.message_models import ChatRequest, ChatResponse, Degradation, Message

from ._ask import Ask, corrected, to_ask, to_prompt_items, with_newest_images, without_format
from ._blocks import to_updates
from ._cancellation import CancellationToken, CancellationWatch
from ._constants import PROVIDER
from ._endpoints import encode, fitted
from ._keywords import read_keywords, unknown_keywords, with_keywords
from ._learning import learning_from_refusals
from ._markup.recovery import recover_calls
from ._messages import to_items
from ._observability import ObservedCall
from ._options import CallOptions, decide_options, first_set, without_tools
from ._refusals import (
    is_about_format,
    is_about_prompt_ids,
    lacks_tool_parser,
    most_images,
    refuses_an_image,
    refuses_token_ids,
)
from ._rendering import rendered, without_template
from ._response_handling import BadCall, cost, to_response
from ._retries import Retries
from ._rounds import Rounds
from ._server import Server
from ._token_in import in_messages, with_prompt_ids, without_ids
from ._tool_repair import RepairedHistory, repair_tool_sequence
from ._turn import Turn


@dataclass(frozen=True, slots=True)
class _Answer:
    """A turn, and the Ask that it answers: the degraded one, if the server refused a part."""

    ask: Ask
    turn: Turn


class Completion:
    """One call of `complete()`."""

    def __init__(
        self,
        server: Server,
        call: ObservedCall,
        request: ChatRequest,
        overrides: Mapping[str, Any],
        cancellation: CancellationToken | None = None,
        *,
        validated: bool = False,
    ) -> None:
        """`validated`: the session itself denies calls that cannot work."""
        self._server = server
        self._watch = CancellationWatch(cancellation)
        self._config = server.config
        self._call = call
        self._request = request
        self._overrides = overrides
        self._validated = validated
        self._retries = Retries(server.transport, server.config, call)
        self._rounds = Rounds(server, call, self._retries)

    async def run(self) -> ChatResponse:
        async with self._watch, self._call:
            self._read_keywords()
            timeout = first_set(self._overrides.get("timeout"), self._request.timeout, self._config.timeout)
            deadline = asyncio.timeout(timeout)
            try:
                async with deadline:
                    return await self._response()
            except TimeoutError as error:
                if not deadline.expired():
                    raise
                message = f"no reply within the timeout of {timeout} s"
                raise LLMTimeoutError(message, provider=PROVIDER, model=self._call.model) from error

    @property
    def cost(self) -> Decimal | None:
        """The price of all tokens so far, in US dollars; None without rates or counts."""
        return cost(self._rounds.spent, self._config.rates)

    async def prepare(self) -> tuple[Ask, RepairedHistory]:
        """The request as it would be sent, and the repairs of its history; for one that is not sent."""
        self._read_keywords()
        return await self._prepare()

    def _read_keywords(self) -> None:
        """Check the call's values and merge its keywords into the request. Raises `InvalidRequestError`."""
        for sentence in unknown_keywords(self._overrides):
            self._server.warn_once(sentence)
        self._overrides = read_keywords(self._overrides)
        self._request = with_keywords(self._request, self._overrides)
        if self._config.disable_tools:
            self._request = without_tools(self._request)

    async def _prepare(self) -> tuple[Ask, RepairedHistory]:
        options = self._options(await self._retries.run(self._model))
        history = repair_tool_sequence(self._request.messages)
        return fitted(self._within_image_limit(to_ask(history.messages, self._request, options))), history

    async def _response(self) -> ChatResponse:
        ask, history = await self._prepare()
        messages = len(self._request.messages)
        try:
            ask = await self._rendered(ask)
        except LLMError:  # the request has no body, and is told of all the same
            await self._call.emit_request(ask, messages, dict)
            raise
        await self._call.emit_request(ask, messages, lambda: encode(self._rounds.first(ask)))
        await self._report(ask, history)
        answer = await self._answer(ask)
        response = self._convert(answer)
        if isinstance(response, BadCall) and not answer.turn.hosted_calls:  # another round would run them again
            answer = await self._correct(answer, response)
            response = self._convert(answer)
        if isinstance(response, BadCall):
            raise response.error(ask.options.model) from response.cause
        await self._watch.check()
        if ask.options.token_in:
            reply = Message(role="assistant", content=response.content)
            self._server.chains.remember(ask, to_items(reply), answer.turn)
        self._call.set_response(response, answer.turn.raw)
        return response

    async def _rendered(self, ask: Ask) -> Ask:
        """The request with its prompt in token ids, if it gets one: rendered once for its event and its first round."""
        render = rendered if ask.options.endpoint == "completions" else with_prompt_ids

        async def rendered_once() -> Ask:
            async with learning_from_refusals(self._server, ask):
                return await render(self._server, ask)

        try:
            return await self._retries.run(rendered_once)
        except (ProviderUnavailableError, LLMTimeoutError):
            if render is rendered:
                raise
            return without_ids(self._server, ask)
        except InvalidRequestError as error:
            other = without_template(ask, error)
            if other is None and is_about_format(error):  # gpt-oss is rendered by a chat call, schema included
                other = without_format(ask, str(error))
            if other is None:
                raise
            return await self._rendered(other)

    async def _report(self, ask: Ask, history: RepairedHistory) -> None:
        """Announce once what of the history is repaired or not sent: it comes again with every request."""
        for sentence in (*history.warnings, *ask.prompt.losses):
            self._server.warn_once(sentence)
        await self._call.emit_repair(history.with_new_repairs(self._server.is_new))

    async def _model(self) -> str:
        requested = first_set(self._overrides.get("model"), self._request.model, self._config.default_model)
        return await self._server.model(requested)

    def _options(self, model: str) -> CallOptions:
        limits = self._server.limits(model)
        options = decide_options(
            self._request,
            self._overrides,
            self._config,
            model=model,
            family=self._server.family(model),
            largest_reply=limits.largest_reply if limits.from_server else None,
            has_responses=self._server.has_responses,
            gives_tokens=self._server.gives_tokens,
        )
        options = replace(options, calls_in_text=not self._server.parses_calls)
        return replace(options, vision=False) if self._server.most_images.get(model) == 0 else options

    async def _answer(self, ask: Ask) -> _Answer:
        answer = await self._reply_or_degrade(ask)
        recovery = recover_calls(answer.turn, [tool.name for tool in answer.ask.functions], answer.ask.options.family)
        if recovery.warning is not None:
            self._server.warn_once(recovery.warning)
        if recovery.turn is not answer.turn:
            await self._call.stream.abort(
                StreamError("the reply's text contained tool calls; it is streamed again with them")
            )
            await self._call.stream.show(to_updates(recovery.turn.items))
        return replace(answer, turn=recovery.turn)

    async def _reply_or_degrade(self, ask: Ask) -> _Answer:
        """The reply; to a degraded request if the server refuses an optional part."""
        while True:
            try:
                return _Answer(ask, await self._rounds.reply(ask))
            except ContextLengthError:  # a template drops what the ids keep: earlier thoughts and reminders
                if not ask.sends_prompt_ids:
                    raise
                ask = replace(ask, tokens=None, segment="context window")
            except (InvalidRequestError, NotFoundError) as error:
                other = self._at_chat(ask) or self._degrade(ask, error)
                if other is None:
                    raise
                ask = other

    def _at_chat(self, ask: Ask) -> Ask | None:
        """The same request for `/v1/chat/completions`, if the server turned out to have no `/v1/responses`."""
        if ask.options.endpoint != "responses" or self._server.has_responses:
            return None
        self._server.announce("it has no /v1/responses, so it is asked at /v1/chat/completions from now on")
        return fitted(replace(ask, options=replace(ask.options, endpoint="chat")))

    def _degrade(self, ask: Ask, error: InvalidRequestError | NotFoundError) -> Ask | None:
        """The request without the part that the server refuses; None if that part is not optional."""
        if isinstance(error, NotFoundError):
            return None
        if lacks_tool_parser(error) and not ask.options.calls_in_text:
            self._server.parses_calls = False
            return replace(ask, options=replace(ask.options, calls_in_text=True))
        if ask.sends_prompt_ids and is_about_prompt_ids(error):
            return in_messages(self._server, ask, "ids refused")
        if refuses_token_ids(error) and self._server.gives_tokens:
            self._server.gives_tokens = False
            return replace(ask, options=replace(ask.options, token_ids=False))
        if is_about_format(error) and (degraded := without_format(ask, str(error))):
            return degraded
        most = most_images(error)
        if most is None and not refuses_an_image(error):
            return None
        degraded = with_newest_images(ask, most or 0, str(error))
        if degraded is not None and most is not None:
            self._server.most_images[ask.options.model] = most
        return degraded

    def _within_image_limit(self, ask: Ask) -> Ask:
        most = self._server.most_images.get(ask.options.model)
        reason = f"{ask.options.model} was sent more images than its server takes"
        return ask if not most else with_newest_images(ask, most, reason) or ask

    def _convert(self, answer: _Answer) -> ChatResponse | BadCall:
        degradations = [*answer.ask.options.degradations, *answer.ask.degradations, *self._unavailable(answer.turn)]
        tools = self._request.tools or []
        # Those that go with captured token ids are not part of the transcript.
        turn = replace(answer.turn, logprobs=None) if answer.ask.options.captures_logprobs else answer.turn
        return to_response(
            turn,
            tools,
            self._config.rates,
            degradations,
            spent=self._rounds.spent,
            continuations=self._rounds.continuations,
            validated=self._validated,
        )

    def _unavailable(self, turn: Turn) -> Iterator[Degradation]:
        for label, reason in turn.unavailable:
            self._server.warn_once(f"the tools of MCP server {label!r} could not be offered to the model: {reason}")
            yield Degradation(requested=f"tools of MCP server {label}", actual="no tools", reason=reason)

    async def _correct(self, answer: _Answer, bad: BadCall) -> _Answer:
        """The one round in which the model may correct an invalid call."""
        error = bad.error(answer.ask.options.model)
        await self._call.stream.abort(error)
        await self._call.emit_retry(1, 0.0, error, max_retries=1)
        if answer.ask.options.token_in:
            self._server.chains.remember(answer.ask, [*to_prompt_items(answer.turn.items)], answer.turn)
        ask = corrected(answer.ask, answer.turn, bad.call, f"Error: {error}. Call it again.")
        return await self._answer(await self._rendered(ask))
