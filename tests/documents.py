"""The README's and the contributor's guide's blocks, for the tests that try them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def blocks(language: str, file: Path = README) -> list[str]:
    """The text of every block in this language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", file.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(file: Path = README) -> list[str]:
    return [line for block in blocks("sh", file) for line in block.splitlines() if line and not line.startswith("#")]
