"""A conversation with a provider that tells its tokens, and the `llm:tokens` events that it emitted."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from amplifier_core import HookResult
from amplifier_core.message_models import ChatRequest, ChatResponse, Message

from amplifier_module_provider_vllm import VLLMProvider
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.exchange import GET_WEATHER
from tests.support.token_server import TokenServer


@dataclass
class TokenSession:
    """Messages, as an orchestrator keeps them, and the events of the calls."""

    provider: VLLMProvider
    recorder: EventRecorder
    messages: list[Message] = field(default_factory=list[Message])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def ask(self, *new: Message, reminder: str | None = None, **fields: Any) -> ChatResponse:
        """A call with these new messages. A reminder is sent with it, and not kept."""
        self.messages += new
        late = [] if reminder is None else [Message(role="system", content=reminder)]
        request = ChatRequest(messages=[*self.messages, *late], **{"tools": [GET_WEATHER], **fields})
        response = await self.provider.complete(request)
        self.messages.append(Message(role="assistant", content=response.content))
        return response

    async def hear(self, _name: str, data: dict[str, Any]) -> HookResult:
        self.events.append(data)
        return HookResult(action="continue")

    @property
    def segments(self) -> list[str | None]:
        return [event["segment"] for event in self.events]

    @property
    def exact(self) -> list[bool]:
        """Of each call after the first: whether its prompt begins with that of the one before, and its reply."""
        pairs = zip(self.events, self.events[1:], strict=False)
        return [
            _begins(after["prompt_token_ids"], [*one["prompt_token_ids"], *one["token_ids"]]) for one, after in pairs
        ]


@asynccontextmanager
async def token_session(server: TokenServer, **config: Any) -> AsyncIterator[TokenSession]:
    recorder = EventRecorder()
    async with server() as replay, provider_at(replay.base_url, recorder, **config) as provider:
        session = TokenSession(provider, recorder)
        recorder.coordinator.hooks.register("llm:tokens", session.hear, priority=0, name="hear-tokens")
        yield session


def said(text: str) -> Message:
    return Message(role="user", content=text)


def result(response: ChatResponse, text: str) -> list[Message]:
    """The same result for every call of a response."""
    return [Message(role="tool", tool_call_id=call.id, content=text) for call in response.tool_calls or ()]


def _begins(ids: Sequence[int], start: Sequence[int]) -> bool:
    return list(ids[: len(start)]) == list(start)
