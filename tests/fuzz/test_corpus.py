"""Every input of the corpus (seeds and earlier findings), replayed without the fuzzer."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path.relative_to(CORPUS) for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=str)
def test_a_corpus_input_passes_its_target(path: Path) -> None:
    TARGETS[path.parent.name]((CORPUS / path).read_bytes())


def test_every_target_has_a_corpus_folder_and_every_folder_a_target() -> None:
    assert {path.parent.name for path in INPUTS} == set(TARGETS)
