"""A chat server at the socket whose tokens are bytes: it renders ChatML, and samples what a test says."""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.replay import NOT_FOUND, Answer, ReplayServer, Reply, Request, describe, json_reply
from tests.support.wire import sse_reply

START: Final = 256
END: Final = 257
CHAT: Final = "/v1/chat/completions"


@dataclass(frozen=True)
class Sampled:
    """A reply: its text, with the markup of calls as JSON lines, or cut before the end of the turn."""

    text: str = ""
    reasoning: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    finish_reason: str | None = None
    ends_turn: bool = True

    @property
    def ids(self) -> list[int]:
        markup = "".join(f"<call>{name} {json.dumps(arguments)}" for name, arguments in self.calls)
        thought = f"<think>{self.reasoning}</think>" if self.reasoning else ""
        return [*f"{thought}{self.text}{markup}".encode(), *([END] if self.ends_turn else [])]

    def message(self, number: int) -> dict[str, Any]:
        calls = [
            {
                "id": f"call_{number}_{place}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for place, (name, arguments) in enumerate(self.calls)
        ]
        thought = {"reasoning": self.reasoning} if self.reasoning else {}
        return {"role": "assistant", **thought, "content": self.text or None, "tool_calls": calls}


@dataclass
class TokenServer:
    """The answers of one server. What it was prompted with is in `prompts`."""

    replies: Iterable[Sampled]
    takes_ids: bool = True
    drifts: bool = False
    """Whether it ignores ids, and renders a reply in another way than the model wrote it."""
    refuses_ids: bool = False
    most_sent_ids: int | None = None
    """With more ids it says that its window is full. Messages it renders shorter."""
    tokenizes: bool = True
    refuses_text: str | None = None
    """A text that its template refuses at /tokenize."""
    tells_ids: bool = True
    odd_ids: Sequence[int] | None = None
    """Told in place of what was sampled."""
    also_tells: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of a whole reply, and of a stream's last chunk."""
    prompts: list[list[int]] = field(default_factory=list[list[int]])
    sent_ids: list[list[int] | None] = field(default_factory=list[list[int] | None])
    """The ids that each request had; None for a request without."""
    tokenized: int = 0
    """The number of requests to /tokenize."""

    def __post_init__(self) -> None:
        self._replies = deque(self.replies)

    def __call__(self) -> ReplayServer:
        paths: dict[str, Answer] = {
            CHAT: self._chat,
            "/tokenize": self._tokenize,
            "/openapi.json": describe(CHAT, "/tokenize"),
        }
        if not self.tokenizes:
            del paths["/tokenize"]
        return ReplayServer(paths=paths, elsewhere=NOT_FOUND)

    def _tokenize(self, request: Request) -> Reply:
        self.tokenized += 1
        if self.refuses_text is not None and self.refuses_text in request.body.decode():
            return json_reply(400, {"error": {"message": "the template refuses it", "code": 400}})
        ids = render(request.json)
        return json_reply(200, {"count": len(ids), "max_model_len": 4096, "tokens": ids})

    def _chat(self, request: Request) -> Reply:
        body = request.json
        sent = (body.get("kv_transfer_params") or {}).get("prompt_token_ids")
        if sent is not None and self.refuses_ids:
            return json_reply(400, {"error": {"message": "unknown field: kv_transfer_params", "code": 400}})
        if sent is not None and self.most_sent_ids is not None and len(sent) > self.most_sent_ids:
            message = f"Input length ({len(sent)}) exceeds model's maximum context length ({self.most_sent_ids})."
            return json_reply(400, {"error": {"message": message, "code": 400}})
        prompt = sent if sent is not None and self.takes_ids and not self.drifts else self._render(body)
        self.sent_ids.append(sent)
        self.prompts.append(prompt)
        sampled = self._replies.popleft()
        return self._streamed(prompt, sampled) if body["stream"] else self._whole(prompt, sampled)

    def _render(self, body: Mapping[str, Any]) -> list[int]:
        ids = render(body)
        return [START, *ids] if self.drifts and len(self.prompts) else ids

    def _whole(self, prompt: list[int], sampled: Sampled) -> Reply:
        choice = {"index": 0, "message": sampled.message(len(self.prompts)), **self._end(sampled), **self._ids(sampled)}
        told = {"usage": usage(prompt, sampled), **self.also_tells}
        return json_reply(200, {**self._head(prompt), "choices": [choice], **told})

    def _streamed(self, prompt: list[int], sampled: Sampled) -> Reply:
        message = sampled.message(len(self.prompts))
        calls = [{"index": place, **call} for place, call in enumerate(message["tool_calls"])]
        thought = {"reasoning": sampled.reasoning} if sampled.reasoning else {}
        deltas = [{**thought, "content": message["content"]}, *({"tool_calls": [call]} for call in calls)]
        chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}]
        chunks += [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks[0] |= self._head(prompt)
        chunks[1]["choices"][0] |= self._ids(sampled)
        chunks.append({"choices": [{"index": 0, "delta": {}, **self._end(sampled)}]})
        chunks.append({"choices": [], "usage": usage(prompt, sampled), **self.also_tells})
        return sse_reply(*(f"data: {json.dumps(one)}\n\n".encode() for one in chunks), b"data: [DONE]\n\n")

    def _head(self, prompt: list[int]) -> dict[str, Any]:
        ids = {"prompt_token_ids": prompt} if self.tells_ids else {}
        return {"id": f"chatcmpl-{len(self.prompts)}", "model": "tiny-qwen3", **ids}

    def _ids(self, sampled: Sampled) -> dict[str, Any]:
        if not self.tells_ids:
            return {}
        told = [{"token": str(one), "logprob": -one / 1000, "top_logprobs": []} for one in sampled.ids]
        return {"token_ids": sampled.ids if self.odd_ids is None else list(self.odd_ids), "logprobs": {"content": told}}

    def _end(self, sampled: Sampled) -> dict[str, Any]:
        return {"finish_reason": sampled.finish_reason or ("tool_calls" if sampled.calls else "stop")}


def render(body: Mapping[str, Any]) -> list[int]:
    """The prompt of a body, as a chat template renders it."""
    ids: list[int] = []
    for tool in body.get("tools") or ():
        ids += tool["function"]["name"].encode()
    for message in body["messages"]:
        ids += [START, *message["role"].encode(), *b"\n", *_text(message.get("content")).encode()]
        for call in message.get("tool_calls") or ():
            # A template writes a call in another way than the model did.
            ids += f"<call> {call['function']['name']}  {call['function']['arguments']}".encode()
        ids += [END, *b"\n"]
    return ids if body.get("add_generation_prompt") is False else [*ids, START, *b"assistant\n"]


def _text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content or "")


def usage(prompt: Sequence[int], sampled: Sampled) -> dict[str, int]:
    return {"prompt_tokens": len(prompt), "completion_tokens": len(sampled.ids)}
