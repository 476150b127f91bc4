"""Run one reader: `python -m tests.rl.readers NAME WRITTEN MODEL`; its findings alone go to the standard output."""

import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from tests.rl.readers.written import Written


def main() -> None:
    name, folder, model = sys.argv[1:]
    # Trainers print their progress; the findings must stay readable among it.
    with redirect_stdout(sys.stderr):
        findings = list(import_module(f"tests.rl.readers.{name}").read(Written(Path(folder), Path(model))))
    print("\n".join(findings))


if __name__ == "__main__":
    main()
