"""TRL trains one SFT step on our rows: it learns what the model sampled, and its loss is that of our logprobs."""

import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import datasets
from trl import SFTConfig, SFTTrainer

from tests.rl.readers.written import Line, RejectedError, Written, require

AT_A_TIME = 4
# The model answers at temperature 0, so its own tokens surprise it little; those of tools and templates do.
SURPRISE = 10
ROUNDING = 0.002


def read(written: Written) -> Iterator[str]:
    rows = written.lines("trl_sft.jsonl")[:AT_A_TIME]
    sampled = sum(sum(row["completion_mask"]) for row in rows)
    ours = -sum(sum(row["logprobs"]) for row in written.lines("rows.jsonl")[:AT_A_TIME]) / sampled
    with_mask, learned = _step(written, rows)
    without_mask, everything = _step(written, [{"input_ids": row["input_ids"]} for row in rows])
    require(sampled, learned, "the number of learned tokens")
    if not with_mask < without_mask / SURPRISE or abs(with_mask - ours) > ROUNDING:
        losses = f"{with_mask:.4f} with the mask, {without_mask:.4f} without it"
        raise RejectedError(f"the loss is {losses}; by our logprobs it is {ours:.4f}")
    yield f"{version('trl')}: one SFT step on {len(rows)} rows; loss by our logprobs {ours:.4f}"
    yield f"with our mask:    {learned:5} of {everything} tokens learned, loss {with_mask:.4f}"
    yield f"without the mask: {everything:5} of {everything} tokens learned, loss {without_mask:.4f}"


def _step(written: Written, rows: Sequence[Line]) -> tuple[float, int]:
    """The loss of one step, and how many tokens had a label."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            max_steps=1,
            per_device_train_batch_size=AT_A_TIME,
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
        )
        data = datasets.Dataset.from_list(list(rows))
        trainer: Any = SFTTrainer(model=str(written.model), args=settings, train_dataset=data)
        (batch,) = trainer.get_train_dataloader()
        return trainer.train().training_loss, int((batch["labels"] != -100).sum())
