"""Write the README's config table from the config model, so that the two cannot differ."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from amplifier_module_provider_vllm._config import Config
from amplifier_module_provider_vllm._config_reading import ENVIRONMENT

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- config table: `python -m tests.config_table` writes it -->\n"
END = "<!-- end of config table -->"


def config_table() -> str:
    rows = [_row(key, field) for key, field in Config.model_fields.items()]
    return "\n".join(["| key | default | what it does |", "|---|---|---|", *rows]) + "\n"


def written_table(readme: str) -> str:
    """The table as it stands in the README."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def with_table(readme: str) -> str:
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + config_table() + END + rest.partition(END)[2]


def _row(key: str, field: FieldInfo) -> str:
    variable = f" (`{ENVIRONMENT[key]}`)" if key in ENVIRONMENT else ""
    return f"| `{key}` | {_shown(field.default)} | {field.description}{variable} |"


def _shown(default: Any) -> str:
    match default:
        case None:
            return "unset"
        case SecretStr():
            return "none"
        case bool():
            return f"`{str(default).lower()}`"
        case dict():
            return "`{}`"
        case _:
            return f"`{default}`"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
