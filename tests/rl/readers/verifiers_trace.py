"""verifiers reads each session as a trace whose branches have the ids, masks and logprobs of our rows."""

from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version

from verifiers.v1.trace import WireTrace

from tests.rl.readers.written import Line, Written, require


def read(written: Written) -> Iterator[str]:
    rows: dict[str, list[Line]] = defaultdict(list)
    for row in written.lines("rows.jsonl"):
        rows[row["session_id"]].append(row)
    traces = written.lines("verifiers.jsonl")
    branches = 0
    for line in traces:
        session = line["info"]["session_id"]
        trace = WireTrace.model_validate(line)
        got = [(b.token_ids, [int(one) for one in b.sampled_mask], b.logprobs) for b in trace.branches]
        require([_branch(row) for row in rows[session]], got, f"the branches of {session}")
        require(rows[session][0]["reward"], trace.reward, f"the reward of {session}")
        branches += len(got)
    yield f"{version('verifiers')}: {len(traces)} traces, ids, masks and logprobs of {branches} branches equal our rows"


def _branch(row: Line) -> tuple[list[int], list[int], list[float]]:
    prompt = len(row["prompt_ids"])
    ids = row["prompt_ids"] + row["completion_ids"]
    return ids, [0] * prompt + row["completion_mask"], [0.0] * prompt + row["logprobs"]
