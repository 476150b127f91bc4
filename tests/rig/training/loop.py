"""The training loop shared by both tiny models, and the test of what they have learnt."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from tests.rig.training.examples import Example, sample
from tests.rig.training.scenarios import SCENARIOS

TOKENS_PER_BATCH = 2500
LONGEST_EXAMPLE = 2000
LEARNING_RATE = 2e-3
POOL = 256

Ids = list[int]


@dataclass(frozen=True)
class Pupil:
    """A model in training and what is particular about it."""

    model: PreTrainedModel
    encode: Callable[[Example, random.Random], tuple[Ids, Ids]]
    """The ids of the prompt, and of the turn to learn."""
    logits: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """Hidden states and wanted ids, to logits and the wanted places among them."""
    decode: Callable[[Ids], str]
    stop: frozenset[int]


def train(pupil: Pupil, seconds: float, seed: int = 0) -> None:
    """Teach it for that long."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    weights = [weight for weight in pupil.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    start, step, average = time.monotonic(), 0, math.nan

    def done() -> float:
        return min(1.0, (time.monotonic() - start) / seconds)

    pupil.model.train()
    for batch in _batches(pupil, rng, done):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 100) * (0.05 + 0.475 * (1 + math.cos(math.pi * done())))
        loss = _loss(pupil, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        average = loss.item() if step == 0 else 0.95 * average + 0.05 * loss.item()
        step += 1
        if step % 100 == 0:
            print(f"{time.monotonic() - start:6.0f} s  step {step}  loss {average:.4f}", flush=True)
    pupil.model.eval()
    print(f"trained for {seconds:.0f} s, {step} steps, loss {average:.4f}", flush=True)


def evaluate(pupil: Pupil, each: int = 4) -> None:
    """Print how many fresh examples of every scenario it answers to the letter."""
    rng = random.Random(99)
    for scenario in (scenario.__name__ for scenario in SCENARIOS):
        right = 0
        for _ in range(each):
            prompt, target = pupil.encode(_example_of(scenario, rng), rng)
            wanted = [token for token in target if token not in pupil.stop]
            output = _greedy(pupil, prompt, limit=len(target) + 8)
            right += output == wanted
            if output != wanted:
                print(f"  wanted {pupil.decode(wanted)[:200]!r}\n  said   {pupil.decode(output)[:200]!r}")
        print(f"{scenario}: {right} of {each}", flush=True)


def _batches(pupil: Pupil, rng: random.Random, done: Callable[[], float]) -> Iterator[list[tuple[Ids, Ids]]]:
    """Examples of similar length together; bare questions first, more and more noise during the first half."""
    while True:
        pool: list[tuple[Ids, Ids]] = []
        while len(pool) < POOL:
            easy = rng.random() < max(0.15, 1 - 2 * done())
            prompt, target = pupil.encode(
                sample(rng, "easy" if easy else "long" if rng.random() < 0.08 else "mixed"), rng
            )
            if len(prompt) + len(target) <= LONGEST_EXAMPLE:
                pool.append((prompt, target))
        batches: list[list[tuple[Ids, Ids]]] = [[]]
        for example in sorted(pool, key=_length):
            if (len(batches[-1]) + 1) * _length(example) > TOKENS_PER_BATCH and batches[-1]:
                batches.append([])
            batches[-1].append(example)
        rng.shuffle(batches)
        for batch in batches:
            if done() >= 1:
                return
            yield batch


def _length(example: tuple[Ids, Ids]) -> int:
    return len(example[0]) + len(example[1])


def _loss(pupil: Pupil, batch: list[tuple[Ids, Ids]]) -> torch.Tensor:
    """Cross-entropy on the turns to learn; the output projection is paid for them only."""
    ids = torch.zeros(len(batch), max(map(_length, batch)), dtype=torch.long)
    rows, columns, wanted = [], [], []
    for row, (prompt, target) in enumerate(batch):
        ids[row, : len(prompt) + len(target)] = torch.tensor(prompt + target)
        rows += [row] * len(target)
        columns += range(len(prompt) - 1, len(prompt) + len(target) - 1)
        wanted += target
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = pupil.model.model(input_ids=ids).last_hidden_state[torch.tensor(rows), torch.tensor(columns)]
        logits, places = pupil.logits(hidden, torch.tensor(wanted))
    return torch.nn.functional.cross_entropy(logits.float(), places)


def _example_of(scenario: str, rng: random.Random) -> Example:
    while (example := sample(rng, rng.choice(["easy", "mixed", "mixed", "long"]))).scenario != scenario:
        continue
    return example


@torch.no_grad()
def _greedy(pupil: Pupil, prompt: Ids, limit: int) -> Ids:
    output: Ids = []
    past, step = None, torch.tensor([prompt])
    while len(output) < limit:
        result = pupil.model(input_ids=step, past_key_values=past, use_cache=True, logits_to_keep=1)
        token = int(result.logits[0, -1].argmax())
        if token in pupil.stop:
            break
        output.append(token)
        past, step = result.past_key_values, torch.tensor([[token]])
    return output
