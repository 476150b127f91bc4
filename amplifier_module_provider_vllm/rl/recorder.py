"""Record the token ids of each model call of a session, in memory and in OpenTelemetry spans."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from amplifier_core import HookResult

from .handlers import register
from .spans import record_in_span

Handler: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[HookResult | None]]

TOKENS_EVENT: Final = "llm:tokens"


class VLLMTokenRecorder:
    """A handler of `llm:tokens` events; `inner`, another one, is called after it.

    With `add_to_span` each call also goes into the current OpenTelemetry span if that one records, else into a span of
    its own; with `span_name` always into one of its own.
    """

    def __init__(self, inner: Handler | None = None, add_to_span: bool = True, span_name: str | None = None) -> None:
        self.inner = inner
        self.add_to_span = add_to_span
        self.span_name = span_name
        self.prompt_token_ids: list[int] | None = None
        """Of the latest call; None before the first."""
        self.token_ids: list[int] | None = None
        self.history: list[dict[str, list[int]]] = []
        """`prompt_token_ids` and `token_ids` of every call since the last reset."""

    def reset(self) -> None:
        """Forget all calls."""
        self.prompt_token_ids = self.token_ids = None
        self.history = []

    def attach(self, coordinator: Any) -> Callable[[], None]:
        """Listen to a session's calls; returns the function that ends it."""
        return register(coordinator, TOKENS_EVENT, self, "vllm-token-recorder")

    async def __call__(self, event: str, data: dict[str, Any]) -> HookResult:
        if event == TOKENS_EVENT:
            self._record(data)
        result = None if self.inner is None else await self.inner(event, data)
        return HookResult(action="continue") if result is None else result

    def _record(self, data: Mapping[str, Any]) -> None:
        self.prompt_token_ids, self.token_ids = list(data["prompt_token_ids"]), list(data["token_ids"])
        self.history.append({"prompt_token_ids": self.prompt_token_ids, "token_ids": self.token_ids})
        if self.add_to_span:
            record_in_span(data, self.span_name)
