"""TRL trains one GRPO step on our rows, given by its `rollout_func`: where the mask is 1 its logprobs are ours."""

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import datasets
from trl import GRPOConfig, GRPOTrainer

from tests.rl.readers.written import Line, RejectedError, Written

AT_A_TIME = 4
DIFFERENCE = "sampling/sampling_logp_difference/mean"
SHOWN = ("loss", "grad_norm", DIFFERENCE)


def read(written: Written) -> Iterator[str]:
    rows = written.lines("trl_grpo.jsonl")[:AT_A_TIME]
    with_mask = _step(written, rows)
    without_mask = _step(written, [{**row, "env_mask": [1] * len(row["env_mask"])} for row in rows])
    if not with_mask[DIFFERENCE] < 0.05 < without_mask[DIFFERENCE]:
        raise RejectedError(f"{DIFFERENCE}: {with_mask[DIFFERENCE]} with the mask, {without_mask[DIFFERENCE]} without")
    yield f"{version('trl')}: one GRPO step on {len(rows)} rows"
    yield f"with our mask    {_figures(with_mask)}"
    yield f"without the mask {_figures(without_mask)}"


def _step(written: Written, rows: list[Line]) -> dict[str, float]:
    """What one optimizer step logged. Rewards differ inside the group: equal ones would teach nothing."""

    def rollout(prompts: list[Any], _trainer: Any) -> dict[str, list[Any]]:
        chosen = [rows[place % len(rows)] for place in range(len(prompts))]
        columns = {
            key: [row[key] for row in chosen] for key in ("prompt_ids", "completion_ids", "logprobs", "env_mask")
        }
        return {**columns, "given": [float(place % 2) for place in range(len(prompts))]}

    def reward(given: list[float], **_others: Any) -> list[float]:
        return given

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
        trainer = GRPOTrainer(
            model=str(written.model), args=settings, reward_funcs=reward, train_dataset=questions, rollout_func=rollout
        )
        trainer.train()
        return {key: value for key, value in trainer.state.log_history[0].items() if key in SHOWN}


def _figures(logged: dict[str, float]) -> str:
    names = {"loss": "loss", "grad_norm": "gradient", DIFFERENCE: "mean |logprob - ours|"}
    return ", ".join(f"{names[key]} {logged[key]:.4f}" for key in SHOWN)
