"""The server's raw error bodies for invalid requests."""

import json

from raw import call, model

asked = model()
HELLO = {"model": asked, "input": "Hello."}
REQUESTS: dict[str, tuple[str, str, object, str | None]] = {
    "no such model": ("POST", "/responses", {**HELLO, "model": "no-such-model"}, None),
    "a wrong key": ("POST", "/responses", HELLO, "wrong"),
    "no JSON": ("POST", "/responses", b"{", None),
    "a prompt that is too long": ("POST", "/responses", {**HELLO, "input": "word " * 300_000}, None),
    "more output than the window": ("POST", "/responses", {**HELLO, "max_output_tokens": 100_000_000}, None),
    "an unknown previous reply": ("POST", "/responses", {**HELLO, "previous_response_id": "resp_none"}, None),
    "an unknown tool choice": ("POST", "/responses", {**HELLO, "tool_choice": "required"}, None),
    "no such path": ("POST", "/nothing", HELLO, None),
    "a wrong method": ("DELETE", "/responses", None, None),
}

for name, request in REQUESTS.items():
    status, body = call(*request)
    print(f"\n{name}: {status}\n  {json.dumps(body)[:400]}")
