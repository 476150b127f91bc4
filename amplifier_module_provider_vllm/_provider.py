"""VLLMProvider: Amplifier's provider protocol, each method a delegation."""

import logging
import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Unpack

import openai
from amplifier_core.events import TOOL_PRE
from amplifier_core.message_models import ChatRequest, ChatResponse, ToolCall
from amplifier_core.models import ConfigField, ModelInfo, ProviderInfo

from ._budget import request_budget
from ._cancellation import cancellation_token
from ._completion import Completion
from ._config import EFFORTS
from ._config_reading import read_config, unknown_keys
from ._constants import ANSWER_TIMEOUT, DEFAULT_BASE_URL, PROVIDER, TOOL_VALIDATION
from ._keywords import CallKeywords
from ._observability import Hooks, NoHooks, ObservedCall, OrderedHooks, event_labels
from ._server import Server
from ._wire.client import Transport
from ._wire.url import normalized_url

logger = logging.getLogger(__name__)


class VLLMProvider:
    """A vLLM server as an Amplifier provider.

    `base_url`: the server's URL; else that of `config`, else VLLM_BASE_URL. Without a path, `/v1` is added.
    `api_key`: the server's key; else that of `config`, else VLLM_API_KEY, if the server is that of VLLM_BASE_URL.
    `config`: the keys of the README's table. `coordinator`: the session's, for its hooks; None emits no events.
    `client`: an SDK client to use instead of one of our own; it names its server itself, and is not closed by us.

    Raises `ValueError` if nothing names a server, and `ConfigurationError` for an invalid config value.
    """

    name = PROVIDER
    """The provider's name, "vllm"; an instance of it has another name in the session."""
    config: dict[str, Any]
    """The config as it was given."""
    coordinator: Any
    """The session's coordinator, or None."""
    priority: int
    """Rank among the session's providers: the lowest is asked."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        config: Mapping[str, Any] | None = None,
        coordinator: Any = None,
        client: openai.AsyncOpenAI | None = None,
    ) -> None:
        self.config = dict(config or {})
        given = {"base_url": base_url, "api_key": api_key}
        stated = self.config | {key: value for key, value in given.items() if value}
        read = read_config(stated, os.environ)
        if "base_url" not in read.model_fields_set and client is None:
            raise ValueError(
                "No base_url found: set the config key `base_url` (or VLLM_BASE_URL) to the server's URL,"
                f" for example {DEFAULT_BASE_URL}"
            )
        for sentence in unknown_keys(self.config):
            logger.warning("[PROVIDER] vLLM: %s", sentence)
        url = str(client.base_url).rstrip("/") if client is not None else normalized_url(read.base_url)
        self.coordinator = coordinator
        self.priority = read.priority
        self._cost: Decimal | None = None
        key = read.api_key.get_secret_value()
        self._server = Server(Transport(url, key, read.extra_headers, client, read.stated_tools), read)

    def __repr__(self) -> str:
        return f"VLLMProvider({self.url!r})"

    @property
    def url(self) -> str:
        """The server's URL, as it may be shown."""
        return self._server.transport.url

    @property
    def default_model(self) -> str | None:
        """The model that calls ask unless they name another: the config's, or the only one of the last probe's list."""
        return self._server.default_model

    @property
    def is_remote(self) -> bool:
        """Whether the server is another machine than this one."""
        return not self._server.transport.is_local

    @property
    def probed(self) -> bool:
        """Whether the server has been asked for its models, with or without an answer."""
        return self._server.probed

    def get_info(self) -> ProviderInfo:
        """The provider's capabilities, the fields that a wizard asks for, and its defaults; limits are in tokens."""
        limits = self._server.limits(self.default_model)
        read = self._server.config
        return ProviderInfo(
            id=PROVIDER,
            display_name="vLLM",
            credential_env_vars=["VLLM_API_KEY"],
            capabilities=self._capabilities(self.default_model),
            defaults={
                "model": self.default_model,
                "max_tokens": read.max_tokens or limits.max_output_tokens,
                "temperature": read.temperature,
                "timeout": read.timeout,
                "context_window": limits.context_window,
                "max_output_tokens": limits.max_output_tokens,
            },
            config_fields=_config_fields(),
        )

    def get_model_info(self) -> ModelInfo:
        """The model that a call would ask, with its limits in tokens as far as they are known: final after a probe."""
        return self._model_info(self.default_model or PROVIDER)

    async def list_models(self) -> list[ModelInfo]:
        """The server's models, with their limits in tokens. Raises `LLMError` if it does not answer within 10 s.

        Amplifier's `/provider test` relies on the error.
        """
        await self._server.probe(ANSWER_TIMEOUT)
        return [self._model_info(card.id) for card in self._server.cards]

    async def complete(self, request: ChatRequest, **kwargs: Unpack[CallKeywords]) -> ChatResponse:
        """The reply to a request, streamed to the session's hooks.

        Beside Amplifier's fields the response has `content_blocks` and `text`, and as far as they apply in `metadata`
        `vllm:status`, `vllm:response_id`, `vllm:model`, `vllm:incomplete_reason`, `vllm:continuation_count`,
        `vllm:hosted_calls`, `vllm:billed_tokens`, `vllm:logprobs` and `vllm:usage_estimated`. `degradation` says what
        was asked for and could not be had. `usage.cost_usd` is set if the config has `rates`.

        Raises `LLMError`, of the class that says what went wrong and whether it is worth another try.
        """
        labels = event_labels(self._instance(), self.url)
        call = ObservedCall(self._hooks(), self._server.config, labels, self._server.transport.secrets)
        cancellation = cancellation_token(self.coordinator)
        completion = Completion(self._server, call, request, dict(kwargs), cancellation, validated=self._is_validated())
        try:
            return await completion.run()
        finally:
            self._add_cost(completion.cost)

    async def request_budget(
        self, request: ChatRequest, *, context_estimate: int, request_options: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """The request's tokens, counted, and the room that they leave in the window; None if nobody counts them in 3 s.

        `context_estimate`: the caller's own estimate, in tokens; `request_options`: the keywords of `complete()`. The
        result has Amplifier's keys: `estimated_input_tokens`, `input_limit_tokens`, `context_token_budget` (in the
        caller's own measure), `max_output_tokens` and `measurement`.
        """
        call = ObservedCall(NoHooks(), self._server.config, {}, self._server.transport.secrets)
        completion = Completion(self._server, call, request, request_options or {})
        return await request_budget(self._server, completion, context_estimate, cancellation_token(self.coordinator))

    def parse_tool_calls(self, response: ChatResponse) -> list[ToolCall]:
        """The calls of a response, in order; empty if it has none."""
        return list(response.tool_calls or ())

    def session_cost(self) -> dict[str, str] | None:
        """`{"cost_usd": …}` in US dollars, for the session's total; None means unknown: there are no `rates`."""
        return None if self._cost is None else {"cost_usd": str(self._cost)}

    async def probe(self) -> None:
        """Ask the server for its models and limits. Raises `LLMError` if it does not answer within 3 s."""
        await self._server.probe()

    async def close(self) -> None:
        """Close the connections. May be called any number of times; the next call opens new ones."""
        await self._server.close()

    def _add_cost(self, cost: Decimal | None) -> None:
        if cost is not None:
            self._cost = (self._cost or Decimal()) + cost

    def _model_info(self, model: str) -> ModelInfo:
        limits, rates = self._server.limits(model), self._server.config.rates
        pricing = None if rates is None else {f"{key}_per_million": value for key, value in rates.model_dump().items()}
        return ModelInfo.model_validate(
            {
                "id": model,
                "display_name": model,
                "context_window": limits.context_window,
                "max_output_tokens": limits.max_output_tokens,
                "capabilities": self._capabilities(model),
                "pricing": pricing,
            }
        )

    def _capabilities(self, model: str | None) -> list[str]:
        vision = self._server.config.vision is True and self._server.family(model or "").sees_images
        place = "remote" if self.is_remote else "local"
        return ["streaming", "tools", "thinking", "reasoning", "json_mode", *(["vision"] if vision else []), place]

    def _hooks(self) -> Hooks:
        return NoHooks() if self.coordinator is None else OrderedHooks(self.coordinator.hooks)

    def _is_validated(self) -> bool:
        """Whether the session has our tool validation: its errors then reach the model instead of our corrections."""
        match self.coordinator:
            case object(hooks=object(list_handlers=list_handlers)):
                return any(name.startswith(TOOL_VALIDATION) for name in list_handlers(TOOL_PRE).get(TOOL_PRE, ()))
            case _:
                return False

    def _instance(self) -> str:
        """The name under which the session mounted this object; the kernel renames the mount of an instance later."""
        mounted: Mapping[str, object] = {} if self.coordinator is None else self.coordinator.get("providers") or {}
        return next((name for name, provider in mounted.items() if provider is self), PROVIDER)


def _config_fields() -> list[ConfigField]:
    # No env_var on base_url: the wizard keeps one variable for all instances, and the second would move the first.
    return [
        ConfigField(
            id="base_url",
            display_name="Server URL",
            prompt="URL of the vLLM server",
            default=DEFAULT_BASE_URL,
        ),
        ConfigField(
            id="api_key",
            display_name="API key",
            field_type="secret",
            prompt="API key (leave empty for a server without one)",
            env_var="VLLM_API_KEY",
            required=False,
        ),
        # The wizard preselects the first choice: the empty one, which means unset. Each of the others is replaced by
        # the nearest that the model takes.
        ConfigField(
            id="reasoning_effort",
            display_name="Reasoning effort",
            field_type="choice",
            prompt="Reasoning effort (1: the model's own)",
            choices=["", *EFFORTS],
            default="",
            required=False,
            requires_model=True,
        ),
    ]
