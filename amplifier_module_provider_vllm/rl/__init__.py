"""Exact trajectories for reinforcement learning: record a session's tokens, merge them, write what trainers read."""

from .adapters import (
    agent_lightning_events,
    nemo_gym_items,
    skyrl_output,
    slime_samples,
    trl_rollouts,
    trl_sft,
    verifiers_trace,
    verl_outputs,
)
from .atif import from_atif, to_atif
from .files import read_trajectories
from .journal import JournalWriter, read_journal
from .recorder import VLLMTokenRecorder
from .rows import Row, from_rows, read_parquet, to_rows, write_jsonl, write_parquet
from .token_manager import Token, TokenManager
from .tool_validation import VLLMToolValidationHooks
from .trajectory import Call, Observation, Segment, Step, ToolCall, Trajectory, merge

__all__ = [
    "Call",
    "JournalWriter",
    "Observation",
    "Row",
    "Segment",
    "Step",
    "Token",
    "TokenManager",
    "ToolCall",
    "Trajectory",
    "VLLMTokenRecorder",
    "VLLMToolValidationHooks",
    "agent_lightning_events",
    "from_atif",
    "from_rows",
    "merge",
    "nemo_gym_items",
    "read_journal",
    "read_parquet",
    "read_trajectories",
    "skyrl_output",
    "slime_samples",
    "to_atif",
    "to_rows",
    "trl_rollouts",
    "trl_sft",
    "verifiers_trace",
    "verl_outputs",
    "write_jsonl",
    "write_parquet",
]
