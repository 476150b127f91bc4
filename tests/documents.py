"""The documents for users and contributors, and the code blocks in them, for the tests that run them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
USAGE = ROOT / "docs" / "usage.md"
HOW_IT_WORKS = ROOT / "docs" / "how-it-works.md"
OFFLINE = ROOT / "docs" / "offline.md"
REFERENCE = ROOT / "docs" / "coming-from-the-reference.md"

DOCUMENTS = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
"""Documents for users and contributors; every code block is run or checked."""

FOLDERS = [
    ROOT / folder / "README.md"
    for folder in ("ai_working", "ai_working/vllm-investigation", "examples/rl", "tests/rig", "tests/rl")
]
"""READMEs of folders; their links and paths are checked."""


@dataclass(frozen=True)
class Script:
    """A Python block and the output that the document shows below it."""

    name: str
    code: str
    output: str


def blocks(language: str, file: Path) -> list[str]:
    """The text of every block in this language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(file), re.DOTALL | re.MULTILINE)


def languages(file: Path) -> set[str]:
    """The languages of the file's blocks; an empty one is a block without a language."""
    return set(re.findall(r"^```(\w*)\n.*?^```$", text(file), re.DOTALL | re.MULTILINE))


def commands(file: Path) -> list[str]:
    return [line for block in blocks("sh", file) for line in block.splitlines() if line and not line.startswith("#")]


def scripts(file: Path) -> list[Script]:
    """The Python blocks that show their output."""
    found = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text(file), re.DOTALL | re.MULTILINE)
    return [Script(f"{file.stem} {number}", code, output) for number, (code, output) in enumerate(found, 1)]


def anchors(file: Path) -> set[str]:
    """The anchors of the file's headings, spelled as GitHub does."""
    headings = re.findall(r"^#+ (.*)", text(file), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()
