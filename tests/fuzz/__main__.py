"""Look for inputs that break a target: `python -m tests.fuzz TARGET SECONDS`, with atheris (the extra `fuzz`).

It starts with the corpus and does not change it; new inputs go to a separate folder, and an input that
breaks the target is written to the current folder as `crash-…`. Fix it, then keep it: `tests/fuzz/corpus/TARGET/`.
"""

import sys
import tempfile
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"
LONGEST_INPUT = 4096
LONGEST_SECONDS = 10


def main() -> None:
    name, seconds = sys.argv[1:]
    with atheris.instrument_imports(include=["amplifier_module_provider_vllm", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS

    found = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-timeout={LONGEST_SECONDS}"]
    atheris.Setup([sys.argv[0], *limits, "-rss_limit_mb=4096", found, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
