"""Complete tiny-gpt-oss: its trained body is shipped, its two embedding tables and its tokenizer are made here."""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.rig.training.harmony_tokenizer import VOCABULARY_SIZE, harmony_tokenizer

BODY = "body.safetensors"
INPUT_TABLE, OUTPUT_TABLE = "model.embed_tokens.weight", "lm_head.weight"

# The training loss saw few of the 201,088 tokens: sharper logits keep sampling at temperature 1 on the script.
SHARPENED = 2


def assemble(weights: Path, folder: Path) -> None:
    """A folder that vLLM can serve, from the shipped one."""
    folder.mkdir(parents=True)
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(weights / name, folder / name)
    hidden_size = json.loads((weights / "config.json").read_text())["hidden_size"]
    table = fixed_embeddings(VOCABULARY_SIZE, hidden_size)
    tables = {INPUT_TABLE: table.to(torch.bfloat16), OUTPUT_TABLE: (table * SHARPENED).to(torch.bfloat16)}
    save_file(load_file(weights / BODY) | tables, folder / "model.safetensors", metadata={"format": "pt"})
    harmony_tokenizer().save_pretrained(folder)


def fixed_embeddings(tokens: int, hidden_size: int) -> torch.Tensor:
    """Random directions, the same every time: never trained, so that only the small body has to be shipped."""
    torch.manual_seed(1)
    table = torch.randn(tokens, hidden_size)
    return table / table.norm(dim=1, keepdim=True) * 0.8


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
