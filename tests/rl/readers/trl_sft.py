"""TRL trains one SFT step on our rows: only what the model sampled is learned, and it is what the model would say."""

import tempfile
from collections.abc import Iterator
from importlib.metadata import version

import datasets
from trl import SFTConfig, SFTTrainer

from tests.rl.readers.written import RejectedError, Written, require

AT_A_TIME = 4


def read(written: Written) -> Iterator[str]:
    rows = written.lines("trl_sft.jsonl")[:AT_A_TIME]
    sampled = sum(sum(row["completion_mask"]) for row in rows)
    with_mask, learned = _step(written, rows, masked=True)
    without_mask, everything = _step(written, rows, masked=False)
    require(sampled, learned, "the tokens that are learned")
    if not with_mask < without_mask / 10:
        raise RejectedError(f"the loss is {with_mask:.4f} with the mask and {without_mask:.4f} without it")
    yield f"{version('trl')}: one SFT step on {len(rows)} rows"
    yield f"with our mask    {learned:5} of {everything} tokens learned, loss {with_mask:.4f}"
    yield f"without the mask {everything:5} of {everything} tokens learned, loss {without_mask:.4f}"


def _step(written: Written, rows: list[dict[str, object]], *, masked: bool) -> tuple[float, int]:
    """The loss of one step, and how many tokens had a label."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            max_steps=1,
            per_device_train_batch_size=AT_A_TIME,
            # Without this TRL ignores the column `completion_mask`, and says nothing.
            completion_only_loss=masked,
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
        )
        trainer = SFTTrainer(model=str(written.model), args=settings, train_dataset=datasets.Dataset.from_list(rows))
        (batch,) = trainer.get_train_dataloader()
        return trainer.train().training_loss, int((batch["labels"] != -100).sum())
