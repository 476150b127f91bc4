"""The tap that records raw requests and replies for the live tests, on a loopback server."""

import http.client
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.rig.replies import Tokens, call_ids_of, counts_of, final_reply, is_cut, text_of, tokens_of
from tests.rig.tap import open_tap
from tests.support.recordings import load_recording

REPLY = {
    "object": "response",
    "output": [
        {"type": "reasoning", "content": [{"text": "Hm."}]},
        {"type": "message", "content": [{"text": "Par"}, {"text": "is"}]},
    ],
}
EVENTS = f'data: {{"type": "response.created"}}\n\ndata: {json.dumps({"response": REPLY})}\n\n'


class Server(BaseHTTPRequestHandler):
    """Answers with a page, an error, a stream or an unstreamed reply."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("metrics 1\n")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "model" not in asked:
            self._answer(json.dumps({"error": "no model"}))
        else:
            self._answer(EVENTS if asked["stream"] else json.dumps(REPLY))

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        pass


@pytest.fixture
def server_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_the_tap_records_each_model_request_with_its_reply(server_url: str) -> None:
    answers: list[str] = []
    streamed, whole, refused = {"model": "m", "stream": True}, {"model": "m", "stream": False}, {"stream": False}

    with open_tap(server_url) as tap:
        connection = http.client.HTTPConnection(urlsplit(tap.base_url).netloc)
        for body in (streamed, refused, whole):
            connection.request("GET", "/metrics")
            connection.getresponse().read()
            connection.request("POST", "/v1/responses", json.dumps(body))
            answers.append(connection.getresponse().read().decode())
        connection.close()

    assert answers == [EVENTS, '{"error": "no model"}', json.dumps(REPLY)]
    assert tap.exchanges == [(streamed, REPLY), (whole, REPLY)]
    assert text_of(tap.replies[0]) == "Paris"


@pytest.mark.parametrize("way", ["", "_stream"], ids=["unstreamed", "streamed"])
def test_a_chat_reply_is_read_streamed_or_not(way: str) -> None:
    answer = final_reply(load_recording("chat/tiny-qwen3", f"chat_answer{way}").body)
    call = final_reply(load_recording("chat/tiny-qwen3", f"chat_tool{way}").body)
    cut = final_reply(load_recording("chat/tiny-qwen3", f"chat_cut_in_tool_22{way}").body)

    assert text_of(answer).strip() == "The capital of France is Paris."
    assert [len(call_ids_of(reply)) for reply in (answer, call)] == [0, 1]
    assert [is_cut(reply) for reply in (answer, call, cut)] == [False, False, True]


@pytest.mark.parametrize("way", ["", "_stream"], ids=["unstreamed", "streamed"])
@pytest.mark.parametrize("model", ["tiny-qwen3", "tiny-gpt-oss"])
def test_a_text_completion_is_read_streamed_or_not(model: str, way: str) -> None:
    reply = final_reply(load_recording(f"chat/{model}", f"via_completions_tool{way}").body)

    assert reply["object"] == "text_completion"
    assert "</think>" not in text_of(reply)
    assert not is_cut(reply)


@pytest.mark.parametrize("case", ["chat_tool", "chat_stream_usage_tool_stream"])
def test_the_counts_of_a_chat_reply_are_read(case: str) -> None:
    counts = counts_of(final_reply(load_recording("chat/tiny-qwen3", case).body))

    assert (counts.input, counts.output, counts.reasoning) == (196, 34, 10)


def test_an_error_that_ends_a_stream_is_no_reply() -> None:
    recorded = load_recording("chat/tiny-gpt-oss", "chat_fmt_schema_bad_stream")

    assert "error" in final_reply(recorded.body)


def test_the_tokens_of_a_stream_are_those_of_its_chunks() -> None:
    body = load_recording("chat/tiny-qwen3", "chat_usage_continuous_token_ids_stream").body

    tokens = tokens_of(final_reply(body))

    counts = counts_of(final_reply(body))
    assert (len(tokens.prompt), len(tokens.sampled)) == (counts.input, counts.output)
    assert tokens.logprobs == ()


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param({"logprobs": {"content": [{"logprob": -0.5}, {"logprob": 0.0}]}}, id="chat"),
        pytest.param({"logprobs": {"token_logprobs": [-0.5, 0.0]}}, id="completions"),
    ],
)
@pytest.mark.parametrize("at_the_top", [True, False])
def test_the_tokens_of_a_reply_are_found_where_either_endpoint_has_them(
    choice: dict[str, Any], at_the_top: bool
) -> None:
    prompt = {"prompt_token_ids": [1, 2]}
    reply = {"choices": [{"token_ids": [3, 4], **choice}]}

    told = {**reply, **prompt} if at_the_top else {"choices": [{**reply["choices"][0], **prompt}]}

    assert tokens_of(told) == Tokens((1, 2), (3, 4), (-0.5, 0.0))
