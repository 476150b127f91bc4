"""The paths that servers list in their own description."""

import pytest

from amplifier_module_provider_vllm._paths import paths_of
from amplifier_module_provider_vllm._strict_json import Json


def described(*paths: str) -> Json:
    return {"openapi": "3.1.0", "info": {"title": "FastAPI"}, "paths": {path: {"post": {}} for path in paths}}


def test_a_description_lists_its_paths() -> None:
    paths = paths_of(described("/v1/chat/completions", "/v1/responses/{response_id}", "/tokenize"))

    assert paths == frozenset({"/v1/chat/completions", "/v1/responses/{response_id}", "/tokenize"})


@pytest.mark.parametrize("path", ["/{path}", "/{full_path:path}", "/v1/{path}"])
def test_a_gateway_that_hands_on_every_path_does_not_list_them(path: str) -> None:
    assert paths_of(described("/v1/chat/completions", path)) is None


@pytest.mark.parametrize(
    "answer",
    [
        described(),
        described("/health", "/docs"),
        {"paths": ["/v1/responses"]},
        {"detail": "Not Found"},
        [],
        "<p>",
        None,
    ],
    ids=str,
)
def test_anything_else_says_nothing(answer: Json) -> None:
    assert paths_of(answer) is None
