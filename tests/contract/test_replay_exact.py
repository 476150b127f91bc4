"""Recorded replies that were cut and continued by token ids, as a session gets them: equal to the uncut ones."""

from dataclasses import dataclass
from typing import Any

import pytest
from amplifier_core.message_models import ChatResponse

from tests.support.call_events import assert_contract
from tests.support.event_recorder import EventRecorder, provider_at
from tests.support.recorded_replies import Part, in_one_spelling, is_harmony, parts_of, recorded_reply, request_of
from tests.support.recordings import Recording, cases, load_recording
from tests.support.replay import Answer, ReplayServer, Reply, Request, json_reply
from tests.support.vocabulary import vocabulary_folder

MODELS = ("tiny-qwen3", "tiny-gpt-oss")
CONTINUED = [(model, case) for model in MODELS for case in cases(f"chat/{model}", "cont_*_completions")]
CUT_AT_CHAT = [(model, tokens, form) for model in MODELS for tokens in (1, 2, 5, 22, 28) for form in ("", "_stream")]
"""Those that were recorded both as a cut reply of chat/completions and as its rest by token ids."""


@pytest.fixture(autouse=True)
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))


@dataclass(frozen=True)
class CutReply:
    """A recorded reply, and how much of it was sampled before the cap."""

    model: str
    whole: Recording
    rest: Recording

    @property
    def prompt(self) -> list[int]:
        ids: list[int] = self.whole.json["prompt_token_ids"]
        return ids

    @property
    def sampled(self) -> list[int]:
        ids: list[int] = self.rest.request["prompt"][len(self.prompt) :]
        return ids

    @property
    def text(self) -> str:
        """The text before the cut, from which vLLM's parsers had not read anything; gpt-oss is read from its ids."""
        if is_harmony(self.model):
            return "".join(f"<{number}>" for number in self.sampled)
        whole, rest = _raw_text(self.whole.json["choices"][0]["message"]), self.rest.json["choices"][0]["text"]
        assert whole.endswith(rest)
        return whole.removesuffix(rest)

    @property
    def usage(self) -> tuple[int, int]:
        """The tokens of the prompt and of the whole reply, each counted once."""
        counts = self.whole.json["usage"]
        return counts["prompt_tokens"], counts["completion_tokens"]

    def first_completion(self) -> Reply:
        """The cut reply of /v1/completions."""
        counts = {"prompt_tokens": len(self.prompt), "completion_tokens": len(self.sampled)}
        choice = {"index": 0, "text": self.text, "finish_reason": "length", "token_ids": self.sampled}
        return json_reply(
            200, {"choices": [choice | {"prompt_token_ids": self.prompt}], "usage": counts, "model": self.model}
        )

    def detokenize(self, request: Request) -> Reply:
        return json_reply(200, {"prompt": self.text if request.json["tokens"] == self.sampled else "assistant\n"})


def cut_reply(model: str, case: str) -> CutReply:
    whole = f"cont_{case.split('_')[1]}_full"
    return CutReply(model, load_recording(f"chat/{model}", whole), load_recording(f"chat/{model}", case))


def _raw_text(message: dict[str, Any]) -> str:
    """The text of a reply of Qwen's before vLLM parsed it."""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    calls = [f'{{"name": "{one["name"]}", "arguments": {one["arguments"]}}}' for one in functions]
    markup = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    content = message["content"] or "\n\n"
    return f"<think>{message['reasoning']}</think>{content}{markup}"


async def complete(endpoint: str, cut: CutReply, first: Recording | Reply) -> tuple[ChatResponse, list[dict[str, Any]]]:
    """The reply of a session whose first round is cut, and the requests of both rounds."""
    recorder, request = EventRecorder(), request_of(cut.whole.request | {"max_tokens": None})
    paths: dict[str, Answer] = {"/tokenize": json_reply(200, {"tokens": cut.prompt}), "/detokenize": cut.detokenize}
    config = {"endpoint": endpoint, "default_model": cut.model, "max_tokens": len(cut.sampled) or 64, "max_retries": 0}
    async with (
        ReplayServer(*first_rounds(endpoint, cut, first), paths=paths) as server,
        provider_at(server.base_url, recorder, **config) as provider,
    ):
        response = await provider.complete(request)
    assert_contract(recorder, response)
    return response, server.request_bodies


def first_rounds(endpoint: str, cut: CutReply, first: Recording | Reply) -> list[Recording | Reply]:
    """For gpt-oss at /v1/completions a chat of one token renders the prompt before."""
    renders = endpoint == "completions" and is_harmony(cut.model)
    return [*([json_reply(200, {"choices": [], "prompt_token_ids": cut.prompt})] if renders else []), first, cut.rest]


def assert_uncut(response: ChatResponse, whole: Recording) -> None:
    reply = recorded_reply(whole)
    parts = [part for part in reply.parts if part[0] == "tool_call" or part[1].strip()]
    assert stripped(parts_of(response)) == stripped(in_one_spelling(parts))
    assert response.finish_reason == reply.finish_reason
    assert response.degradation is None


def usage_of(response: ChatResponse) -> tuple[int, int]:
    assert response.usage is not None
    return response.usage.input_tokens, response.usage.output_tokens


def stripped(parts: list[Part]) -> list[Part]:
    return [tuple(word.strip() for word in part) for part in parts]


@pytest.mark.parametrize(("model", "case"), CONTINUED)
async def test_a_reply_of_completions_goes_on_exactly(model: str, case: str) -> None:
    cut = cut_reply(model, case)

    response, bodies = await complete("completions", cut, cut.first_completion())

    assert_uncut(response, cut.whole)
    assert usage_of(response) == cut.usage
    assert bodies[-1]["prompt"] == cut.rest.request["prompt"]


@pytest.mark.parametrize(("model", "tokens", "form"), CUT_AT_CHAT)
async def test_a_reply_of_chat_goes_on_exactly(model: str, tokens: int, form: str) -> None:
    cut = cut_reply(model, f"cont_tool_{tokens}_completions")
    first = load_recording(f"chat/{model}", f"chat_cut_in_tool_{tokens}{form}")

    response, bodies = await complete("chat", cut, first)

    assert_uncut(response, cut.whole)
    if not form:  # the streams have no usage
        assert usage_of(response) == cut.usage
    assert bodies[-1]["prompt"] == cut.rest.request["prompt"]


@pytest.mark.parametrize(
    "case",
    ["via_completions_tool", "via_completions_tool_stream", "via_completions_tool_skip_special_stream"],
)
@pytest.mark.parametrize("model", MODELS)
async def test_a_tool_turn_through_completions_is_that_of_chat(model: str, case: str) -> None:
    recorded, whole = load_recording(f"chat/{model}", case), load_recording(f"chat/{model}", "chat_tool")

    response, bodies = await complete("completions", CutReply(model, whole, recorded), recorded)

    assert_uncut(response, whole)
    assert bodies[-1]["prompt"] == recorded.request["prompt"]
