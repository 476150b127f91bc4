"""A reply at /v1/completions that our own cap cut goes on after its token ids, wherever it was cut."""

from collections.abc import Iterator
from typing import Any

import pytest

from amplifier_module_provider_vllm._harmony.vocabulary import shared_vocabulary
from tests.support.exchange import WEATHER, block_contents, open_provider
from tests.support.recordings import Recording, cases, load_recording
from tests.support.replay import ReplayServer, Reply, json_reply
from tests.support.vocabulary import vocabulary_folder

THOUGHT = "I should look up the weather in Paris."
WRITTEN = (
    f"<think>\n{THOUGHT}\n</think>\n\n<tool_call>\n"
    '{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
)
CUTS = [
    (model, case)
    for model in ("tiny-qwen3", "tiny-gpt-oss")
    for case in cases(f"chat/{model}", "cont_tool_*_completions")
]


@pytest.fixture(autouse=True)
def _vocabulary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))
    shared_vocabulary.cache_clear()
    yield
    shared_vocabulary.cache_clear()


def cut_reply(full: dict[str, Any], rest: Recording, cut: int) -> Reply:
    """The reply up to its cap; the text of tokens of gpt-oss is not read."""
    ids, text = full["choices"][0]["token_ids"][:cut], rest.json["choices"][0]["text"]
    choice = {"index": 0, "finish_reason": "length", "token_ids": ids, "prompt_token_ids": full["prompt_token_ids"]}
    usage = {"prompt_tokens": len(full["prompt_token_ids"]), "completion_tokens": cut}
    before = WRITTEN[: WRITTEN.rindex(text)] if WRITTEN.endswith(text) else "not read"
    return json_reply(200, {"id": "cmpl-1", "model": "m", "choices": [{**choice, "text": before}], "usage": usage})


@pytest.mark.parametrize(("model", "case"), CUTS)
async def test_a_cut_tool_turn_goes_on_after_its_token_ids(model: str, case: str) -> None:
    rest, cut = load_recording(f"chat/{model}", case), int(case.split("_")[2])
    full = load_recording(f"chat/{model}", "cont_tool_full").json
    prompt, sampled = full["prompt_token_ids"], full["choices"][0]["token_ids"]
    tokenized = json_reply(200, {"count": 1, "max_model_len": 4096, "tokens": prompt})
    by_chat = json_reply(200, {"prompt_token_ids": prompt})
    paths = {"/tokenize": tokenized, "/v1/chat/completions": by_chat, "/detokenize": json_reply(200, {"prompt": ""})}

    async with (
        ReplayServer(
            cut_reply(full, rest, cut), rest, paths=paths, models=load_recording(model, "get_v1_models")
        ) as server,
        open_provider(server.base_url, endpoint="completions", max_tokens=cut, max_retries=0) as provider,
    ):
        response = await provider.complete(WEATHER)

    prompts = [request.json["prompt"] for request in server.requests if request.path == "/v1/completions"]
    assert prompts == [prompt, [*prompt, *sampled[:cut]]]
    assert block_contents(response) == [("thinking", THOUGHT), ("get_weather", {"city": "Paris"})]
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (len(prompt), len(sampled))
