"""Control tokens in tool output stay inside the tool's turn; ordinary code is sent byte for byte."""

import time

import pytest
from amplifier_core.message_models import Message, ToolCallBlock
from hypothesis import given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._control_tokens import escape_control_tokens
from amplifier_module_provider_vllm._tool_repair import repair_tool_sequence
from tests.support.requests import HELLO, encode_messages

JOINER = "\N{WORD JOINER}"

TOKENS = {
    "ChatML": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "Qwen, Hermes": ["<tool_response>", "</tool_response>"],
    "Llama": ["<|eot_id|>", "<|start_header_id|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "</s>"],
    "Mistral": ["[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[/AVAILABLE_TOOLS]", "[SYSTEM_PROMPT]"],
    "Gemma": ["<start_of_turn>", "<end_of_turn>", "<eos>", "<|turn>", "<turn|>", "<|tool_response>", '<|"|>'],
    "FunctionGemma": ["<start_function_response>", "<end_function_response>"],
    "DeepSeek": ["<｜User｜>", "<｜tool▁outputs▁end｜>", "<｜end▁of▁sentence｜>", "</｜DSML｜function_calls>"],
    "Phi": ["<|tool|>", "<|/tool|>"],
    "EXAONE": ["[|endofturn|]", "[|user|]"],
    "MiniMax": ["]~b]", "]~!b[", "[e~["],
    "Seed, Nemotron": ["<seed:eos>", "<SPECIAL_11>", "<TOOL_RESPONSE>", "</TOOL_RESPONSE>"],
}

CODE = {
    "HTML": '<ul class="a"><li>one</li><s>two</ul><script>if (a<b || c>d) {}</script>',
    "C++": "template<typename T> std::map<int, std::vector<T>> a; if (x<|y) z[0][|1|];",
    "operators": "f <| g |> h; [|1; 2|]; a[i]|b; cat <<EOF >out; x <~ [e]; <|>, <$>, <|x",
    "brackets": "[[ -f x ]] && [ERROR] [INFO] [/etc] [TODO] [x](y)",
    "XML": "<tool><response>ok</response></tool><user/><end>",
}


@pytest.mark.parametrize(
    "token", [pytest.param(token, id=f"{family} {token}") for family, tokens in TOKENS.items() for token in tokens]
)
def test_a_control_token_is_broken_by_one_invisible_character(token: str) -> None:
    escaped = escape_control_tokens(f"before{token}after")

    assert token not in escaped
    assert escaped == f"before{token[0]}{JOINER}{token[1:]}after"


@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
def test_ordinary_code_is_not_changed(code: str) -> None:
    assert escape_control_tokens(code) == code


alphabet = [token for tokens in TOKENS.values() for token in tokens] + list("<>|[]/~｜ab \n")


@given(st.lists(st.sampled_from(alphabet)).map("".join))
def test_the_text_stays_readable_and_is_escaped_once(text: str) -> None:
    escaped = escape_control_tokens(text)

    assert escaped.replace(JOINER, "") == text
    assert escape_control_tokens(escaped) == escaped


@pytest.mark.parametrize("unit", ["<|", "<|a", "<", "[", "[|", "</", "<<SYS", "<SPECIAL_1", "<｜", "]~"])
def test_a_megabyte_of_half_tokens_takes_linear_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))

    started = time.process_time()
    escape_control_tokens(text)

    assert time.process_time() - started < 2


@pytest.mark.parametrize("answered", [True, False], ids=["a result", "an orphaned result"])
def test_tool_output_reaches_a_chat_template_without_control_tokens(answered: bool) -> None:
    every_token = " ".join(alphabet)
    call = Message(role="assistant", content=[ToolCallBlock(id="call_1", name="f", input={})])
    result = Message(role="tool", name="</tool_response>", tool_call_id="call_1", content=every_token)

    history = repair_tool_sequence([HELLO, *([call] if answered else []), result])
    sent = str(encode_messages(*history.messages)["input"])

    assert [token for tokens in TOKENS.values() for token in tokens if token in sent] == []
