"""TRL trains one GRPO step on what our adapter gives its `rollout_func`: only what the model sampled counts."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import datasets
from trl import GRPOConfig, GRPOTrainer

from tests.rl.readers.written import RejectedError, Written, require

AT_A_TIME = 4
SURPRISE = 5
"""At temperature 0 the model is sure of its own tokens; of those of tools and templates it is not."""
LENGTH, ENTROPY, GRADIENT, LOSS = "completions/mean_length", "entropy", "grad_norm", "loss"

Columns = Mapping[str, Sequence[Any]]


def read(written: Written) -> Iterator[str]:
    columns = _group(written.object("trl_rollouts.json"))
    masks = columns["env_mask"]
    with_mask = _step(written, columns)
    without_mask = _step(written, {**columns, "env_mask": [[1] * len(mask) for mask in masks]})
    require(sum(map(sum, masks)) / AT_A_TIME, with_mask[LENGTH], "the mean number of learned tokens")
    if not with_mask[ENTROPY] < without_mask[ENTROPY] / SURPRISE:
        entropies = f"{with_mask[ENTROPY]} with the mask, {without_mask[ENTROPY]} without it"
        raise RejectedError(f"the entropy of the learned tokens is {entropies}")
    yield f"{version('trl')}: one GRPO step on a group of {AT_A_TIME}, rewards {columns['reward']}"
    yield f"with our mask:    {_figures(with_mask)}"
    yield f"without the mask: {_figures(without_mask)}"


def _group(columns: Columns) -> Columns:
    """The rows with tool results, and one without reward: a group of equal rewards teaches nothing."""
    (unrewarded, *_), rewarded = (
        [place for place, reward in enumerate(columns["reward"]) if (reward > 0) is positive]
        for positive in (False, True)
    )
    places = [unrewarded, *rewarded[: AT_A_TIME - 1]]
    return {name: [column[place] for place in places] for name, column in columns.items()}


def _step(written: Written, columns: Columns) -> dict[str, float]:
    """What one optimizer step logged."""

    def rollout(prompts: Sequence[Any], _trainer: Any) -> dict[str, list[Any]]:
        require(AT_A_TIME, len(prompts), "the prompts of a step")
        return {name: list(column) for name, column in columns.items()}

    def given(reward: list[float], **_others: Any) -> list[float]:
        return reward

    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOConfig(
            output_dir=folder,
            max_steps=1,
            per_device_train_batch_size=AT_A_TIME,
            num_generations=AT_A_TIME,
            max_completion_length=2048,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
        )
        questions = datasets.Dataset.from_list([{"prompt": [{"role": "user", "content": "x"}]}] * AT_A_TIME)
        trainer: Any = GRPOTrainer(
            model=str(written.model), args=settings, reward_funcs=given, train_dataset=questions, rollout_func=rollout
        )
        trainer.train()
        logged: dict[str, float] = trainer.state.log_history[0]
        return logged


def _figures(logged: Mapping[str, float]) -> str:
    learned, loss = f"{logged[LENGTH]:.1f} tokens a row learned", f"loss {logged[LOSS]:.6f}"
    return f"{learned}, {loss}, entropy {logged[ENTROPY]:.3f}, gradient {logged[GRADIENT]:.3f}"
