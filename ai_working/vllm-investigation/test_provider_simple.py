"""One question through the provider itself: the blocks that come back, and what they cost."""

import asyncio
import os
import time

from amplifier_core.message_models import ChatRequest, Message
from raw import base_url

from amplifier_module_provider_vllm import VLLMProvider


async def main() -> None:
    provider = VLLMProvider(base_url(), config={"default_model": os.environ.get("VLLM_MODEL")})
    question = ChatRequest(messages=[Message(role="user", content="What is the capital of France?")])
    started = time.monotonic()
    try:
        response = await provider.complete(question, temperature=0)
    finally:
        await provider.close()
    for block in response.content:
        print(block.model_dump(exclude_none=True))
    print("usage:", response.usage and response.usage.model_dump(exclude_none=True))
    print(f"finish_reason: {response.finish_reason}, {time.monotonic() - started:.2f} s")


asyncio.run(main())
