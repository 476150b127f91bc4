"""A server's error is read from every shape that servers and gateways send."""

import json
from typing import Any

import pytest

from amplifier_module_provider_vllm._failure import Failure, read_failure

REFUSED = {"message": "no such model", "type": "NotFoundError", "param": "model", "code": 404}


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({"error": REFUSED}, Failure("no such model", 404, "NotFoundError")),
        (REFUSED, Failure("no such model", 404, "NotFoundError")),
        ({"error": REFUSED | {"code": "404"}}, Failure("no such model", 404, "404 NotFoundError")),
        ({"error": "Unauthorized"}, Failure("Unauthorized", kind="Unauthorized")),
        ({"error": "validation_error", "message": "1. too small"}, Failure("1. too small", kind="validation_error")),
        ({"error": None, "message": "gone", "status": 410}, Failure("gone", 410)),
        ({"status": 503, "error": {"message": "busy", "code": "upstream"}}, Failure("busy", 503, "upstream")),
        ({"error": {"message": "busy", "status": "503"}}, Failure("busy", 503)),
        ({"error": {"message": "no", "code": "x"}, "status": "failed"}, Failure("no", None, "x")),
        ({"detail": "Not Found"}, Failure("Not Found")),
        ({"detail": [{"loc": ["body", "n"]}]}, Failure('{"detail": [{"loc": ["body", "n"]}]}')),
        ({"error": {"message": "Unsupported.", "param": "n"}}, Failure("Unsupported. (parameter=n)")),
        ({"error": {"message": "n is unsupported.", "param": "n"}}, Failure("n is unsupported.")),
        ({"error": {"message": "Unsupported.", "param": "a sentence"}}, Failure("Unsupported.")),
        ({"message": 'failed (502): {"error": null}', "code": 502}, Failure('failed (502): {"error": null}', 502)),
        ({"error": {"code": 500, "type": "ServerError"}}, Failure("ServerError", 500, "ServerError")),
        ({"error": {"message": ["odd"], "code": {}}}, Failure('{"message": ["odd"], "code": {}}')),
        ("gone", Failure("gone")),
        ({}, Failure("")),
        ([], Failure("")),
        (None, Failure("")),
    ],
    ids=lambda value: json.dumps(value)[:60] if not isinstance(value, Failure) else "",
)  # fmt: skip
def test_an_error_of_any_shape_is_read(body: Any, failure: Failure) -> None:
    assert read_failure(body) == failure


@pytest.mark.parametrize("around", ["failed (404 Not Found): {}", "BadRequestError: vllm - {}\n\nno fallback"])
def test_the_error_that_a_gateway_quotes_is_read(around: str) -> None:
    quoted = around.replace("{}", json.dumps({"error": REFUSED}))

    failure = read_failure({"error": {"message": quoted, "type": "upstream_error", "code": "upstream_error"}})

    assert (failure.message, failure.status) == ("no such model", 404)
    assert failure.kind.split() == ["upstream_error", "upstream_error", "NotFoundError"]


@pytest.mark.parametrize("quoted", ['{"error": {"message": "cut', '{"error"' + ":{" * 100_000, '{"error": '])
def test_a_quotation_that_is_cut_off_stays_as_it_is(quoted: str) -> None:
    assert read_failure({"message": f"failed: {quoted}"}) == Failure(f"failed: {quoted}")
