"""The tap that records raw requests and replies for the live tests, on a loopback server."""

import http.client
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest

from tests.rig.replies import text_of
from tests.rig.tap import open_tap

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
