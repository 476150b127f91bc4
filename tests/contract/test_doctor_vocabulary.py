"""Whether gpt-oss can be counted is told, and nothing is fetched for it."""

from pathlib import Path

import pytest

from amplifier_module_provider_vllm._doctor.vocabulary import vocabulary
from amplifier_module_provider_vllm._harmony.vocabulary import Vocabulary
from tests.support.vocabulary import vocabulary_folder


async def test_the_files_are_found() -> None:
    found = await vocabulary(Vocabulary(vocabulary_folder()))

    assert found.outcome == "ok"


async def test_where_there_are_none_it_says_where_they_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)

    found = await vocabulary(Vocabulary(tmp_path))

    assert found.outcome == "note"
    files = "o200k_base.tiktoken and cl100k_base.tiktoken"
    assert found.remedy == f"without internet: put {files} into a folder, and name it in TIKTOKEN_ENCODINGS_BASE"
    assert list(tmp_path.iterdir()) == []
