"""An agent for Agent Lightning 1.0: one rollout is one Amplifier session, and its reward."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from amplifier_core import AmplifierSession

# An orchestrator, a context manager and two tools that are not on PyPI; put those of your application in their place.
MODULES = Path(__file__).resolve().parents[2] / "tests" / "support" / "modules"


class AmplifierAgent:
    """One rollout, in a process of its own: ask QUESTIONS; words of EXPECTED in the last answer are rewarded."""

    async def run(self) -> None:
        """Run the session at the gateway of this rollout, then post the reward."""
        task = os.environ
        sys.path.insert(0, str(MODULES))
        session = AmplifierSession(config=mount_plan(task), session_id=task["SESSION_ID"])
        await session.initialize()
        answer = ""
        try:
            for question in json.loads(task["QUESTIONS"]):
                answer = await session.execute(question)
        finally:
            await session.cleanup()
        await _post_reward(task, reward(answer, task["EXPECTED"]))


def mount_plan(task: Mapping[str, str]) -> dict[str, Any]:
    """The session of one rollout."""
    return {
        "session": {"orchestrator": {"module": "loop-test"}, "context": {"module": "context-test"}},
        "providers": [{"module": "provider-vllm", "config": provider_config(task)}],
        "tools": [{"module": "tool-weather"}],
        "hooks": [{"module": "hooks-vllm-tokens", "config": {"path": task["RECORDED"], "format": "atif"}}],
    }


def provider_config(task: Mapping[str, str]) -> dict[str, Any]:
    """The gateway takes `/v1/chat/completions` alone, unstreamed; the temperature is its own."""
    config = {
        "base_url": task["AGL_OPENAI_BASE_URL"],
        "default_model": task["MODEL"],
        "endpoint": "chat",
        "use_streaming": False,
        "return_token_ids": True,
        "token_in": json.loads(task["TOKEN_IN"]),
        # It does not pass `/tokenize` on, which any replica of the model answers.
        "tokenize_url": task["TOKENIZE_URL"],
        "max_tokens": 400,
    }
    return config | ({"api_key": task["AGL_KEY"]} if task["AGL_KEY"] != "" else {})


def reward(answer: str, expected: str) -> float:
    """The share of the expected words that the answer has."""
    words = expected.split()
    return sum(word in answer for word in words) / len(words)


async def _post_reward(task: Mapping[str, str], value: float) -> None:
    headers = {"Authorization": f"Bearer {task['AGL_KEY']}"} if task["AGL_KEY"] != "" else {}
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        event = {"event_type": "reward", "data": {"value": value, "source": "agent"}}
        (await client.post(task["AGL_EVENT_URL"], json=event)).raise_for_status()
