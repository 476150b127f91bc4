"""Exact trajectories for reinforcement learning: record a session's tokens, merge them, write what trainers read."""

from .trajectory import Call, Observation, Segment, Step, ToolCall, Trajectory, merge

__all__ = [
    "Call",
    "Observation",
    "Segment",
    "Step",
    "ToolCall",
    "Trajectory",
    "merge",
]
