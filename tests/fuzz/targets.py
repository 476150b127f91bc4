"""Properties of any bytes from a server. A target takes bytes, and raises if a property is violated."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, Final, TypeVar

import h11
import openai
from amplifier_core.llm_errors import ConfigurationError, LLMError
from amplifier_core.message_models import ToolSpec

from amplifier_module_provider_vllm._blocks import Blocks
from amplifier_module_provider_vllm._chat import events as chat_events
from amplifier_module_provider_vllm._chat.fold import ChatFold
from amplifier_module_provider_vllm._completions import events as completion_events
from amplifier_module_provider_vllm._completions.fold import CompletionsFold
from amplifier_module_provider_vllm._config import Config
from amplifier_module_provider_vllm._endpoint import Fold
from amplifier_module_provider_vllm._errors import UNREADABLE, failed_reply, failed_stream, failures_as_llm_errors
from amplifier_module_provider_vllm._family import FAMILIES, family_of
from amplifier_module_provider_vllm._limits import limits_of, model_names, pick_model, read_cards, window_in_refusal
from amplifier_module_provider_vllm._markup.recovery import recover_calls
from amplifier_module_provider_vllm._response_handling import BadCall, to_response
from amplifier_module_provider_vllm._responses.events import Event, decode_event, decode_reply
from amplifier_module_provider_vllm._responses.fold import ResponsesFold
from amplifier_module_provider_vllm._secrets import Secrets, hidden_secrets
from amplifier_module_provider_vllm._turn import Status, Turn
from amplifier_module_provider_vllm._updates import BlockDelta, BlockEnd, BlockStart, Update
from amplifier_module_provider_vllm._visible_text import VisibleText
from amplifier_module_provider_vllm._wire.chunks import ChunkJoiner
from amplifier_module_provider_vllm._wire.sse import Frame
from tests.fuzz import completions_stories
from tests.fuzz.chat_stories import chunks_of
from tests.fuzz.growth import growth
from tests.fuzz.stories import events_of
from tests.fuzz.trajectory_files import trajectory_files
from tests.support.requests import ask_of
from tests.support.rounds import to_frames
from tests.support.routes import wire

URL: Final = "http://vllm.test/v1"
CITY: Final = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "array"}}}
TOOLS: Final = [ToolSpec(name="get_weather", parameters=CITY)]
ASKS: Final = [
    ask_of(request={"tools": TOOLS}, overrides={"max_output_tokens": 20}, harmony=harmony) for harmony in (False, True)
]
MODELS: Final = ("qwen3", "llama", "mistral", "kimi", "other")
"""One of each family whose replies are read from their text."""
COMPLETIONS: Final = [ask_of(request={"tools": TOOLS}, model=model) for model in MODELS]
FILTERS: Final = (None, lambda: VisibleText(("Paris", "]")))
LONGEST_MESSAGE: Final = 2_500

E = TypeVar("E")


def stream(data: bytes) -> None:
    """A stream read in pieces (the first byte is their size) gives the same result as read at once."""
    size, body = 1 + data[0] % 64 if data else 1, data[1:]
    frames = to_frames([body])
    assert to_frames(body[start : start + size] for start in range(0, len(body), size)) == frames
    _check_responses(decode_all(frames, decode_event))
    try:
        _check_responses([decode_reply(body)])
    except UNREADABLE:
        return


def story(data: bytes) -> None:
    """Every three bytes are an event: its kind, its item and its text. So most inputs decode."""
    _check_responses(decode_all([Frame(name, data) for name, data in events_of(data)], decode_event))


def chat_stream(data: bytes) -> None:
    """The same bytes as a stream, and as a whole reply, of /v1/chat/completions."""
    body = data[1:]
    _check_chat(decode_all(to_frames([body]), chat_events.decode_event))
    try:
        _check_chat([chat_events.decode_reply(body)])
    except UNREADABLE:
        return


def chat_story(data: bytes) -> None:
    """Every three bytes are a chunk: its kind, its place and its text."""
    _check_chat(decode_all([Frame(b"", chunk) for chunk in chunks_of(data)], chat_events.decode_event))


def completions_stream(data: bytes) -> None:
    """The same bytes as a stream, and as a whole reply, of /v1/completions."""
    body = data[1:]
    _check_completions(decode_all(to_frames([body]), completion_events.decode_event))
    try:
        _check_completions([completion_events.decode_reply(body)])
    except UNREADABLE:
        return


def completions_story(data: bytes) -> None:
    """Every three bytes are a chunk: its kind, its place and its text."""
    frames = [Frame(b"", chunk) for chunk in completions_stories.chunks_of(data)]
    _check_completions(decode_all(frames, completion_events.decode_event))


def chunks(data: bytes) -> None:
    """h11 reads and refuses the same from joined chunks as from the raw ones."""
    size, raw = 1 + data[0] % 64 if data else 1, HEADS[data[1] % len(HEADS)] + data[2:] if data[1:] else b""
    reads = [raw[start : start + size] for start in range(0, len(raw), size)]
    joiner = ChunkJoiner()
    assert _receive([joiner.feed(read) for read in reads]) == _receive(reads)


def cards(data: bytes) -> None:
    """Any `/v1/models` body gives usable limits for every model in it."""
    try:
        listed = read_cards(data)
    except UNREADABLE:
        return
    for model in [None, "unlisted", *(card.id for card in listed)]:
        limits = limits_of(model, listed, Config())
        assert limits.context_window > 0
        assert 0 < limits.max_output_tokens <= limits.context_window
        assert family_of(*model_names(model or "", listed)) in FAMILIES
    try:
        assert pick_model(None, listed, URL).isprintable()
    except ConfigurationError as error:
        _check_readable(error)


def refusal(data: bytes) -> None:
    """Any status, header and body of a refusal become one readable typed error."""
    status = 300 + (data[0] if data else 0) + (data[1] if data[1:] else 0)
    head, _, body = data[2:].partition(b"\n")
    kind, _, value = head.partition(b"|")
    headers = {b"content-type": kind, b"retry-after": value, b"retry-after-ms": value, b"location": value}
    request = wire.Request("POST", URL, headers={"authorization": "Bearer sk-canary-1", "x-key": "canary-2"})
    answer = wire.Response(status, headers=list(headers.items()), content=body, request=request)
    refused = openai.APIStatusError("refused", response=answer, body=_read_with_sdk(body))
    error = _llm_error(refused, Secrets(["sk-canary-1", "canary-2"]))
    _check_readable(error)
    assert error.status_code == status
    assert error.retry_after is None or error.retry_after >= 0
    assert not any(secret in str(error) for secret in ("sk-canary-1", "canary-2"))
    window_in_refusal(str(error))


def _llm_error(refused: openai.APIStatusError, secrets: Secrets) -> LLMError:
    try:
        with failures_as_llm_errors("m", URL, secrets=lambda: secrets):
            raise refused
    except LLMError as error:
        return error


def _raised(error: LLMError) -> LLMError:
    """The error as a caller gets it: shortened where its secrets are hidden."""
    with suppress(LLMError), hidden_secrets(Secrets):
        raise error
    return error


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (
        stream,
        story,
        chat_stream,
        chat_story,
        completions_stream,
        completions_story,
        chunks,
        cards,
        refusal,
        growth,
        trajectory_files,
    )
}

HEADS: Final = [
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nTransfer-Encoding:  Chunked \n\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"",
]


def decode_all(frames: Sequence[Frame], decode: Callable[[Frame], E | None]) -> list[E]:
    """Decode as the transport does: an invalid event ends the round and keeps the events before it."""
    decoded: list[E] = []
    for frame in frames:
        try:
            event = decode(frame)
        except UNREADABLE:
            break
        decoded += [] if event is None else [event]
    return decoded


def _check_responses(events: Sequence[Event]) -> None:
    for visible_text in FILTERS:
        blocks = Blocks(visible_text=visible_text)
        _check_fold(events, ResponsesFold(blocks), blocks)


def _check_chat(events: Sequence[chat_events.Event]) -> None:
    for ask, visible_text in product(ASKS, FILTERS):
        blocks = Blocks(visible_text=visible_text)
        _check_fold(events, ChatFold(blocks, ask), blocks)


def _check_completions(events: Sequence[completion_events.Event]) -> None:
    for ask in COMPLETIONS:
        blocks = Blocks()
        _check_fold(events, CompletionsFold(blocks, ask, None), blocks)


def _check_fold(events: Sequence[E], fold: Fold[E], block_space: Blocks) -> None:
    blocks: dict[int, list[str] | None] = {}
    for updates in (*(fold.push_all([event]) for event in events), fold.end(), block_space.close()):
        for update in updates:
            _show(update, blocks)
    if fold.failure is not None:
        _check_readable(_raised(failed_stream(fold.failure, "m")))
    elif fold.turn is not None:
        assert [pieces for pieces in blocks.values() if pieces is not None] == [], "a block was left open"
        assert len(blocks) == len(fold.turn.items)
        _check_turn(fold.turn)


def _show(update: Update, blocks: dict[int, list[str] | None]) -> None:
    match update:
        case BlockStart(index=index):
            assert index == len(blocks), "a block started with the wrong index"
            blocks[index] = []
        case BlockDelta(index=index, text=text):
            pieces = blocks[index]
            assert pieces is not None, "a delta for a block that has ended"
            assert text
            pieces.append(text)
        case BlockEnd(index=index):
            assert blocks[index] is not None, "a block ended twice"
            blocks[index] = None


def _check_turn(turn: Turn) -> None:
    if turn.status is Status.FAILED:
        _check_readable(_raised(failed_reply(turn, "m")))
        return
    for offered, family in product(([], ["get_weather"]), FAMILIES):
        response = to_response(recover_calls(turn, offered, family).turn, TOOLS, None)
        if isinstance(response, BadCall):
            _check_readable(response.error("m"))
            continue
        extras: dict[str, Any] = response.model_extra or {}
        assert len(extras["content_blocks"]) == len(response.content)
        json.loads(response.model_dump_json())
        json.dumps(response.model_dump(mode="json"), allow_nan=False).encode()


def _check_readable(error: LLMError) -> None:
    message = str(error)
    assert message
    assert message.isprintable(), repr(message)
    assert len(message) <= LONGEST_MESSAGE


def _receive(reads: Sequence[bytes]) -> tuple[bytes, str]:
    """The body received so far, and how it ended."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "here")]))
    client.send(h11.EndOfMessage())
    body = b""
    try:
        for read in [*(read for read in reads if read), b""]:
            client.receive_data(read)
            while (event := client.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                body += bytes(event.data) if isinstance(event, h11.Data) else b""
                if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    return body, type(event).__name__
    except h11.RemoteProtocolError:
        return body, "refused"
    return body, "open"


def _read_with_sdk(body: bytes) -> object:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")
    return read.get("error", read) if isinstance(read, dict) else read
