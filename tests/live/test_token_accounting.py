"""Our token counts compared with the server's: of replies, and of requests before they are sent."""

import subprocess
from contextlib import aclosing, suppress

import pytest
from amplifier_core.llm_errors import ProviderUnavailableError
from amplifier_core.message_models import ChatRequest, Message, TextBlock, ThinkingBlock, ToolCallBlock, ToolSpec
from openai_harmony import HarmonyEncoding

import amplifier_module_provider_vllm._harmony.vocabulary as vocabulary
from amplifier_module_provider_vllm._endpoints import ENDPOINTS
from amplifier_module_provider_vllm._harmony.count import count_usage
from amplifier_module_provider_vllm._responses.encode import encode
from amplifier_module_provider_vllm._turn import TokenUsage, Turn
from amplifier_module_provider_vllm._wire.client import Transport
from tests.rig.environment import ensure_environment
from tests.rig.replies import counts_of
from tests.rig.server import LiveServer
from tests.rig.tap import Tap
from tests.support.exchange import CITY, GET_WEATHER, open_provider, user, with_tool_results
from tests.support.requests import ask_of
from tests.support.rounds import fold_events, response_of
from tests.support.vocabulary import vocabulary_folder

pytestmark = pytest.mark.live

GET_TIME = ToolSpec(name="get_time", description="Get the time in a city.", parameters=CITY)
SEARCH = ToolSpec(
    name="search",
    description="Search the web.\nCarefully.",
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for", "enum": ["news", "maps"]},
            "most": {"type": ["integer", "null"], "default": 3},
            "near": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"lat": {"type": "number"}}}]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
)
NOW = ToolSpec(name="now", parameters={"type": "object", "properties": {}})
SYSTEM = Message(role="system", content="You are a brief assistant.\n\nAnswer in English.")
REMINDER = Message(role="system", content="Two of three steps are done.")


def tool_call_message(name: str, call_id: str, thought: str, **arguments: str) -> Message:
    call = ToolCallBlock(id=call_id, name=name, input=arguments)
    return Message(role="assistant", content=[ThinkingBlock(thinking=thought), call])


def request_of(*messages: Message | str, **fields: object) -> ChatRequest:
    history = [Message(role="user", content=one) if isinstance(one, str) else one for one in messages]
    return ChatRequest.model_validate({"messages": history, **fields})


WEATHER = "What is the weather in Paris?"
LOOKED_UP = (
    tool_call_message("get_weather", "call_1", "I should look up the weather.", city="Paris"),
    Message(role="tool", tool_call_id="call_1", content="sunny, 21 C"),
)
PARALLEL = Message(
    role="assistant",
    content=[
        ThinkingBlock(thinking="I need both."),
        ToolCallBlock(id="call_1", name="get_weather", input={"city": "Zürich"}),
        ToolCallBlock(id="call_2", name="get_weather", input={"city": "London"}),
    ],
)
PREAMBLE = Message(
    role="assistant",
    content=[
        ThinkingBlock(thinking="I should look up the weather."),
        TextBlock(text="I will check."),
        ToolCallBlock(id="call_1", name="get_weather", input={"city": "Paris"}),
    ],
)
ANSWERED = Message(role="assistant", content=[ThinkingBlock(thinking="It is Paris."), TextBlock(text="Paris.\n")])

REQUESTS = {
    "plain": user("What is the capital of France?"),
    "instructions": request_of(SYSTEM, "What is the capital of Japan?"),
    "low-effort": user("What is the capital of France?", reasoning_effort="low"),
    "high-effort": user("What is the capital of France?", reasoning_effort="high"),
    "tools": user(WEATHER, GET_WEATHER),
    "many-tools": request_of(SYSTEM, WEATHER, tools=[GET_WEATHER, GET_TIME, SEARCH, NOW]),
    "preamble": user("Say what you do, then check the weather in Paris.", GET_WEATHER),
    "after-tool": request_of(WEATHER, *LOOKED_UP, tools=[GET_WEATHER]),
    "after-preamble": request_of(WEATHER, PREAMBLE, LOOKED_UP[1], tools=[GET_WEATHER]),
    "after-parallel": request_of(
        SYSTEM,
        "Compare the weather in Zürich and London.",
        PARALLEL,
        Message(role="tool", tool_call_id="call_1", content="schön, 21 °C <|end|>"),
        Message(role="tool", tool_call_id="call_2", content='{"sky": "rainy"}'),
        tools=[GET_WEATHER],
    ),
    "reminder-in-a-tool-turn": request_of(SYSTEM, WEATHER, *LOOKED_UP, REMINDER, tools=[GET_WEATHER]),
    "turns": request_of(SYSTEM, "France?", ANSWERED, "And its capital?", ANSWERED, "What is the capital of Japan?"),
    "turns-with-tools": request_of(WEATHER, *LOOKED_UP, ANSWERED, "And in London?", tools=[GET_WEATHER]),
    "odd-text": request_of("<|start|>user<|message|> 🎉 ünï\r\n\t\u200d", ANSWERED, "<|im_end|>"),
    "long-reply": user("Count from 1 to 100."),
    "long-prompt": request_of("Tell me of Paris. " * 200, ANSWERED, "What is the capital of France?"),
    "cut-answer": user("Count from 1 to 100.", max_output_tokens=80),
    "cut-thought": user("What is the capital of France?", max_output_tokens=8),
    "cut-call": user(WEATHER, GET_WEATHER, max_output_tokens=24),
}
every_request = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())


@pytest.fixture(autouse=True)
def _vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_folder()))


@pytest.fixture(scope="module")
def encoding() -> HarmonyEncoding:
    found = vocabulary.Vocabulary(vocabulary_folder()).load()
    assert found is not None
    return found


async def run_exchange(server: LiveServer, request: ChatRequest, encoding: HarmonyEncoding) -> tuple[Turn, TokenUsage]:
    """The server's reply with its counts, and our counts of the same."""
    ask = ask_of(
        *request.messages,
        request=request.model_dump(exclude={"messages"}, exclude_none=True),
        config={"temperature": 0},
        harmony=True,
        model=server.model,
    )
    transport = Transport(server.base_url, "", {}, None)
    async with aclosing(transport.batches(ENDPOINTS["responses"], encode(ask), {}, idle_timeout=120)) as batches:
        turn = fold_events([event async for batch in batches for event in batch]).turn
    await transport.close()
    assert turn is not None
    return turn, count_usage(encoding, ask, turn)


def assert_counted(turn: Turn, ours: TokenUsage) -> None:
    assert turn.usage is not None
    assert ours.input_tokens == turn.usage.input_tokens
    assert abs(ours.output_tokens - turn.usage.output_tokens) <= 2


@every_request
async def test_our_counts_equal_the_servers(
    gpt_oss: LiveServer, request_: ChatRequest, encoding: HarmonyEncoding
) -> None:
    turn, ours = await run_exchange(gpt_oss, request_, encoding)

    assert_counted(turn, ours)


async def test_our_counts_equal_the_servers_in_every_step_of_a_tool_loop(
    gpt_oss: LiveServer, encoding: HarmonyEncoding
) -> None:
    request = user("What is the weather and time in Paris?", GET_WEATHER, GET_TIME)
    outputs = {"get_weather": "sunny, 21 C", "get_time": "12:30"}
    steps = 0

    while request.messages[-1].role != "assistant":
        turn, ours = await run_exchange(gpt_oss, request, encoding)
        assert_counted(turn, ours)
        response = response_of(turn, request.tools or [])
        request = with_tool_results(request, response, *(outputs[call.name] for call in response.tool_calls or []))
        steps += 1

    assert steps == 3


@every_request
async def test_the_budget_of_a_request_equals_the_servers_later_count(
    server: LiveServer, endpoint: str, request_: ChatRequest
) -> None:
    async with Tap(server.base_url, endpoint) as tap, open_provider(tap.base_url, endpoint=endpoint) as provider:
        budget = await provider.request_budget(request_, context_estimate=100)
        # Only the prompt matters: a tiny model may give empty replies to unusual requests.
        with suppress(ProviderUnavailableError):
            await provider.complete(request_.model_copy(update={"max_output_tokens": 400}))

    assert budget is not None
    assert budget["estimated_input_tokens"] == counts_of(tap.replies[0]).input
    assert budget["input_limit_tokens"] + budget["max_output_tokens"] == 4096


def test_the_harmony_module_of_vllm_needs_no_vocabulary_files(tmp_path: object) -> None:
    """It is called oss-harmony, and includes the vocabulary."""
    load = (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('vocabulary', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.Vocabulary(pathlib.Path(sys.argv[2])).load().encode('Hello'))\n"
    )
    python = ensure_environment() / "python"

    done = subprocess.run(  # noqa: S603 - our own command
        [python, "-c", load, str(vocabulary.__file__), str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("[13225]\n", "")
