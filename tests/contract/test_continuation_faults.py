"""What breaks while a reply goes on by its token ids costs at most its exactness: no reply, call or text is lost."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
from amplifier_core.message_models import ChatResponse

from amplifier_module_provider_vllm._harmony.vocabulary import shared_vocabulary
from tests.support.call_events import assert_contract
from tests.support.chat_rounds import chunk, stream
from tests.support.completions import harmony
from tests.support.exchange import CAPITAL, WEATHER, block_contents
from tests.support.provider_session import provider_session
from tests.support.recordings import load_recording
from tests.support.replay import NOT_FOUND, PROMPT_IDS, ReplayServer, Reply, json_reply
from tests.support.vocabulary import vocabulary_folder
from tests.support.wire import SSE, refusal

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
DETOKENIZE: Final = "/detokenize"
PROMPT: Final = [1, 2, 3]
EMPTY: Final = Reply(404, {}, b"")
TEXT: Final = ({"content": "Hello "}, {"content": "wor"})
IN_PARIS: Final = '{"city": "Paris"}'
MARKUP: Final = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


@pytest.fixture
def _vocabulary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))
    shared_vocabulary.cache_clear()
    yield
    shared_vocabulary.cache_clear()


def call(arguments: str = IN_PARIS) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "get_weather", "arguments": arguments}}]}


def chat(*deltas: dict[str, Any], reason: str = "length", tokens: int | None = None) -> Reply:
    """A reply with a token for each delta."""
    first = {**chunk(), "prompt_token_ids": PROMPT}
    pieces = [chunk(delta, token_ids=[10 + number]) for number, delta in enumerate(deltas)]
    usage = {"prompt_tokens": 3, "completion_tokens": len(deltas) if tokens is None else tokens}
    return Reply(200, SSE, stream(first, *pieces, chunk({}, reason), {"choices": [], "usage": usage}))


def rest(text: str, prompt: Sequence[int] = (*PROMPT, 10, 11), reason: str = "stop") -> Reply:
    """What the model writes after these tokens, as one of its own."""
    choice = {"index": 0, "text": text, "finish_reason": reason, "token_ids": [99], "prompt_token_ids": [*prompt]}
    usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
    return json_reply(200, {"id": "cmpl-1", "choices": [choice], "usage": usage})


def text_of(ids: str) -> Reply:
    """The answer of /detokenize."""
    return json_reply(200, {"prompt": ids})


async def asked(
    *replies: Reply,
    request: Any = CAPITAL,
    paths: dict[str, Reply] | None = None,
    model: str = "tiny-qwen3",
    **config: Any,
) -> tuple[ChatResponse, list[str]]:
    """The response, and the endpoints that were asked; the events of the stream are those of the response."""
    settings = {"endpoint": "chat", "max_tokens": 2, "max_retries": 1, **config}
    async with (
        ReplayServer(*replies, paths=paths, models=load_recording(model, "get_v1_models")) as server,
        provider_session(server, **settings) as (session, provider),
    ):
        response = await provider.complete(request)
    assert_contract(session, response)
    return response, [request.path for request in server.requests if request.path in (CHAT, COMPLETIONS)]


@pytest.mark.parametrize("answer", [NOT_FOUND, EMPTY, refusal(403), refusal(500)], ids=["404", "empty", "403", "500"])
async def test_a_call_at_the_cap_is_a_reply_even_if_nobody_says_whether_it_was_cut(answer: Reply) -> None:
    complete = chat(call(), {}, reason="tool_calls")

    response, endpoints = await asked(complete, request=WEATHER, paths={DETOKENIZE: answer})

    assert block_contents(response) == [("get_weather", {"city": "Paris"})]
    assert response.finish_reason == "tool_calls"
    assert endpoints == [CHAT]


@pytest.mark.parametrize("answer", [NOT_FOUND, EMPTY, refusal(403), refusal(500)], ids=["404", "empty", "403", "500"])
@pytest.mark.parametrize("path", [DETOKENIZE, COMPLETIONS])
async def test_a_text_goes_on_by_its_items_where_a_gateway_has_no_path_for_its_tokens(answer: Reply, path: str) -> None:
    paths = {DETOKENIZE: text_of("Hello wor"), path: answer}

    response, endpoints = await asked(chat(*TEXT), chat({"content": "ld."}, reason="stop"), paths=paths)

    assert block_contents(response) == [("text", "Hello world.")]
    assert response.finish_reason == "stop"
    assert endpoints[-1] == CHAT


@pytest.mark.parametrize(
    ("written", "shown"),
    [("Sure.\n<tool_call>\n{", "Sure.\n<tool_call>\n{"), ('<tool_call>\n{"name": "get', '<tool_call>\n{"name": "get')],
    ids=["after a text", "alone"],
)
async def test_what_was_held_back_is_shown_if_the_reply_does_not_go_on(written: str, shown: str) -> None:
    cut = rest(written, PROMPT_IDS, "length")

    response, _ = await asked(cut, refusal(400), refusal(400), request=WEATHER, endpoint="completions")

    assert block_contents(response) == [("text", shown)]
    assert response.finish_reason == "length"


async def test_tokens_that_are_not_all_there_are_not_gone_on_from() -> None:
    """A gateway that drops a chunk's ids would have the model write the arguments without what they had."""
    cut = chat(call('{"city": "New '), tokens=5)
    again = chat(call('{"city": "New York"}'), reason="tool_calls")
    paths = {DETOKENIZE: text_of('<tool_call>\n{"name": "get_weather", "arguments": {"city": "')}

    response, endpoints = await asked(cut, again, request=WEATHER, paths=paths, max_tokens=5)

    assert block_contents(response) == [("get_weather", {"city": "New York"})]
    assert endpoints == [CHAT, CHAT]


async def test_a_call_that_a_gateway_has_rewritten_is_not_read_from_its_tokens() -> None:
    """Guardrails mask what a call may not say."""
    cut = chat(call('{"city": "[masked]"}'), {"content": "and"})
    again = chat({"content": " so on."}, reason="tool_calls")

    response, endpoints = await asked(cut, again, request=WEATHER, paths={DETOKENIZE: text_of(f"{MARKUP}\nand")})

    assert block_contents(response) == [("get_weather", {"city": "[masked]"}), ("text", "and so on.")]
    assert endpoints == [CHAT, CHAT]


async def test_a_required_call_that_is_not_in_the_models_own_markup_is_asked_for_anew() -> None:
    """Older servers hold a model to a JSON list of calls, which only they can read."""
    required = WEATHER.model_copy(update={"tool_choice": "required"})
    again = chat(call(), reason="tool_calls")

    response, endpoints = await asked(
        chat({}, {}), again, request=required, paths={DETOKENIZE: text_of('[{"name": "get_we')}
    )

    assert block_contents(response) == [("get_weather", {"city": "Paris"})]
    assert endpoints == [CHAT, CHAT]


@pytest.mark.parametrize("key", ["structured_outputs", "response_format", "guided_json"])
async def test_what_a_grammar_of_the_operator_holds_is_asked_for_anew(key: str) -> None:
    """The grammar would begin again in the middle."""
    again = chat({"content": '{"a": "xyz"}'}, reason="stop")
    grammar = {key: {"type": "json_object"}}

    response, endpoints = await asked(
        chat({"content": '{"a": '}, {"content": '"xy'}), again, extra_request_params=grammar
    )

    assert block_contents(response) == [("text", '{"a": "xyz"}')]
    assert endpoints == [CHAT, CHAT]


async def test_a_round_that_adds_no_token_counts_the_prompt_once() -> None:
    nothing = {"index": 0, "text": "", "finish_reason": "stop", "prompt_token_ids": [*PROMPT, 10, 11]}
    ended = json_reply(200, {"choices": [nothing], "usage": {"prompt_tokens": 5, "completion_tokens": 0}})

    response, _ = await asked(chat(*TEXT), ended, paths={DETOKENIZE: text_of("Hello wor")})

    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 2)


@pytest.mark.usefixtures("_vocabulary")
@pytest.mark.parametrize(("after", "text"), [("ld and more", "Hello"), ("k and more", "Hello work and more")])
async def test_a_stop_string_on_both_sides_of_a_cut_is_hidden_from_hooks_too(after: str, text: str) -> None:
    """vLLM does not cut it off for gpt-oss, and does not look for it in the prompt."""
    cut = harmony().encode("<|channel|>final<|message|>Hello wor", allowed_special="all")
    more = harmony().encode(f"{after}<|return|>", allowed_special="all")
    deltas = [chunk({"content": "Hello "}, token_ids=cut[:-1]), chunk({"content": "wor"}, "length", token_ids=cut[-1:])]
    first = Reply(200, SSE, stream({**chunk(), "prompt_token_ids": PROMPT}, *deltas))
    choice = {"text": "", "finish_reason": "stop", "token_ids": more, "prompt_token_ids": [*PROMPT, *cut]}
    stopped = CAPITAL.model_copy(update={"stop": ["world"]})

    response, endpoints = await asked(
        first, json_reply(200, {"choices": [choice]}), request=stopped, model="tiny-gpt-oss", max_tokens=len(cut)
    )

    assert block_contents(response) == [("text", text)]
    assert endpoints == [CHAT, COMPLETIONS]
