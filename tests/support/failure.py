"""Make a call of the real SDK fail, and return the converted error."""

from typing import Any

import httpx
import pytest
import respx
from amplifier_core.llm_errors import LLMError

from amplifier_module_provider_vllm._errors import failures_as_llm_errors
from tests.support.routes import routed_client

URL = "http://vllm.test/v1"


async def failure(answer: httpx.Response | Exception) -> LLMError:
    """The converted error of a call that gets this response or exception."""
    router = respx.MockRouter()
    router.post(f"{URL}/responses").mock(
        **({"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer})
    )
    async with routed_client(router, URL) as client:
        with pytest.raises(LLMError) as raised, failures_as_llm_errors("tiny", URL):
            await client.responses.create(model="tiny", input="Hello")
    return raised.value


def error_body(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, **fields}}
