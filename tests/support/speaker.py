"""Speakers: a Speech as the bytes of a server, on each endpoint, so that tests can break them anywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

from amplifier_module_provider_vllm._config import EndpointName
from amplifier_module_provider_vllm._endpoints import ENDPOINTS
from tests.support.chat_speaker import ChatSpeaker
from tests.support.completions_speaker import CompletionsSpeaker
from tests.support.replay import Reply
from tests.support.speech import CITIES_ANSWER, Speech, Stream, text_part
from tests.support.wire import ResponsesSpeaker, sse_reply, whole_reply


class Speaker(Protocol):
    """The format of one endpoint."""

    endpoint: EndpointName

    def stream(self, speech: Speech) -> Stream: ...

    def body(self, speech: Speech) -> dict[str, Any]:
        """The unstreamed reply."""
        ...

    def error(self, error: object, **beside: object) -> list[bytes]:
        """The events of an error in the middle of a stream; `beside` are fields beside the error."""
        ...

    def last_event(self, data: bytes) -> bytes:
        """An event that ends the reply, with this raw data."""
        ...


SPEAKERS: Final[Mapping[EndpointName, Speaker]] = {
    speaker.endpoint: speaker for speaker in (ResponsesSpeaker(), ChatSpeaker(), CompletionsSpeaker())
}


def body_of(speaker: Speaker, speech: Speech) -> bytes:
    """The bytes of an unstreamed reply."""
    return json.dumps(speaker.body(speech), ensure_ascii=False).encode()


def spoken(speaker: Speaker, speech: Speech, *, stream: bool = True, **shape: Any) -> Reply:
    """The reply, streamed or not."""
    if stream:
        return sse_reply(*speaker.stream(speech).events, **shape)
    return whole_reply(body_of(speaker, speech), **shape)


@dataclass(frozen=True)
class Answer:
    """The answer about cities on one endpoint, to break and to send."""

    speaker: Speaker

    @property
    def endpoint(self) -> EndpointName:
        return self.speaker.endpoint

    @cached_property
    def stream(self) -> Stream:
        return self.speaker.stream(CITIES_ANSWER)

    @cached_property
    def body(self) -> bytes:
        return body_of(self.speaker, CITIES_ANSWER)

    @cached_property
    def after_reasoning(self) -> list[bytes]:
        """The events of the stream up to the end of the reasoning."""
        return [*self.stream.opening, *self.stream.parts[0].events]

    @cached_property
    def stall_offset(self) -> int:
        """Where the last text delta begins in the stream, in bytes."""
        return sum(map(len, self.stream.before_last_delta))

    @cached_property
    def healthy(self) -> Mapping[bool, Reply]:
        """The correct reply, by whether it is streamed."""
        return {True: self.sse(), False: self.whole()}

    def sse(self, **shape: Any) -> Reply:
        """The whole stream; `shape` sets the delivery fields of `Reply`."""
        return sse_reply(*self.stream.events, **shape)

    def whole(self, **shape: Any) -> Reply:
        """The unstreamed reply; `shape` sets the delivery fields of `Reply`."""
        return whole_reply(self.body, **shape)

    def text_delta(self, text: str) -> bytes:
        """An event with a text."""
        (delta,) = self.speaker.stream(Speech((text_part(text),))).parts[0].deltas
        return delta


ANSWERS: Final[Mapping[EndpointName, Answer]] = {name: Answer(SPEAKERS[name]) for name in ENDPOINTS}
"""On each endpoint that the provider has."""
