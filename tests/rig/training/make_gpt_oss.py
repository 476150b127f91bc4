"""Make and train tiny-gpt-oss: gpt-oss's architecture, the real Harmony vocabulary, prompts by vLLM's own renderer.

The embeddings of the 201,088 tokens are fixed random directions, shared by input and output, so that only the small
body is trained.
"""

import argparse
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GptOssConfig, GptOssForCausalLM
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionToolsParam
from vllm.entrypoints.openai.parser import harmony_utils as harmony

from tests.rig.training.assemble_gpt_oss import BODY, INPUT_TABLE, OUTPUT_TABLE, fixed_embeddings
from tests.rig.training.conversation import Message
from tests.rig.training.examples import Example
from tests.rig.training.harmony_tokenizer import FIRST_SPECIAL, VOCABULARY_SIZE, harmony_tokenizer
from tests.rig.training.loop import Ids, Pupil, evaluate, train

HIDDEN_SIZE, LAYERS, HEAD_SIZE, EXPERTS, EXPERT_SIZE = 128, 3, 32, 2, 256
START, END, RETURN, CALL = FIRST_SPECIAL, 199999, 200002, 200012
OTHER_TOKENS = 4000

# Without these vLLM cannot place positions: it asks for the rope type by name.
YARN = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where to put the weights")
    parser.add_argument("--seconds", type=int, default=420)
    options = parser.parse_args()
    tokenizer = harmony_tokenizer()
    model = _model()
    pupil = Pupil(
        model=model,
        encode=_encode,
        logits=_sampled_softmax(model.lm_head.weight.detach()),
        decode=tokenizer.decode,
        stop=frozenset({RETURN, CALL, END}),
    )
    train(pupil, options.seconds)
    _save(model, options.out)
    evaluate(pupil)


def _save(model: GptOssForCausalLM, out: Path) -> None:
    """The shipped form: everything but the two tables, which assemble_gpt_oss makes again."""
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.update(eos_token_id=[RETURN, END, CALL], do_sample=True)
    model.generation_config.save_pretrained(out)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(out)
    tables = (INPUT_TABLE, OUTPUT_TABLE)
    body = {
        name: weight.to(torch.bfloat16).contiguous()
        for name, weight in model.state_dict().items()
        if name not in tables
    }
    save_file(body, out / BODY, metadata={"format": "pt"})


def _model() -> GptOssForCausalLM:
    heads = HIDDEN_SIZE // HEAD_SIZE
    config = GptOssConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=EXPERT_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_SIZE,
        num_local_experts=EXPERTS,
        num_experts_per_tok=1,
        sliding_window=128,
        max_position_embeddings=131072,
        rope_parameters=YARN,
        tie_word_embeddings=False,
        bos_token_id=START,
        eos_token_id=RETURN,
        pad_token_id=END,
        initializer_range=0.04,
        attn_implementation="eager",
    )
    model = GptOssForCausalLM(config)
    table = fixed_embeddings(VOCABULARY_SIZE, HIDDEN_SIZE)
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        weight.data.copy_(table)
        weight.requires_grad_(False)
    return model


def _sampled_softmax(table: torch.Tensor) -> Any:
    """Logits over the batch's own tokens and a random sample of the others: all 201,088 would take hours."""
    generator = torch.Generator().manual_seed(3)

    def logits(hidden: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        others = torch.randint(0, VOCABULARY_SIZE, (OTHER_TOKENS,), generator=generator)
        candidates = torch.unique(torch.cat([wanted, others]))
        return hidden @ table[candidates].t().to(hidden.dtype), torch.searchsorted(candidates, wanted)

    return logits


def _encode(example: Example, rng: random.Random) -> tuple[Ids, Ids]:
    example = dataclasses.replace(example, messages=_one_call_at_a_time(example.messages))
    if example.scenario == "two_answers" and rng.random() < 0.5:  # stop after the first result: the second call is next
        *earlier, call, _ = example.messages
        example = dataclasses.replace(example, messages=earlier, target=call)
    target = harmony.get_encoding().encode(_target_text(example.target), allowed_special="all")
    return _prompt(example, rng), target


def _one_call_at_a_time(messages: Sequence[Message]) -> list[Message]:
    """Harmony ends a turn at its first call: two calls and two results become call, result, call, result."""
    spread: list[Message] = []
    remaining = list(messages)
    while remaining:
        message = remaining.pop(0)
        if len(message.calls) < 2:
            spread.append(message)
            continue
        for call in message.calls:
            spread += [dataclasses.replace(message, calls=(call,)), remaining.pop(0)]
    return spread


def _prompt(example: Example, rng: random.Random) -> Ids:
    date = f"20{rng.randint(24, 29)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    effort = rng.choice([None, None, "low", "medium", "high"])
    preface = [harmony.get_system_message(reasoning_effort=effort, start_date=date)]
    functions = [{"type": "function", "function": dataclasses.asdict(tool)} for tool in example.tools]
    tools = [ChatCompletionToolsParam.model_validate(function) for function in functions]
    if tools or example.system:
        preface.append(harmony.get_developer_message(instructions=example.system, tools=tools or None))
    chat: list[dict[str, Any]] = []
    for message in example.messages:
        call_id = f"c{sum('tool_calls' in told for told in chat)}"
        chat.append(_message(message, call_id, replay_reasoning=rng.random() < 0.6))
    ids: Ids = harmony.render_for_completion(preface + harmony.parse_chat_inputs_to_harmony_messages(chat))
    return ids


def _message(message: Message, last_call_id: str, *, replay_reasoning: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "tool":
        told["tool_call_id"] = last_call_id
    if message.role == "assistant" and replay_reasoning:
        told["reasoning"] = message.reasoning
    if message.calls:
        call_id = f"c{int(last_call_id[1:]) + 1}"
        told["tool_calls"] = [{"id": call_id, "type": "function", "function": dataclasses.asdict(message.calls[0])}]
    return told


def _target_text(target: Message) -> str:
    text = f"<|channel|>analysis<|message|>{target.reasoning}<|end|><|start|>assistant"
    if not target.calls:
        return f"{text}<|channel|>final<|message|>{target.content}<|return|>"
    if target.content:
        text += f"<|channel|>commentary<|message|>{target.content}<|end|><|start|>assistant"
    call = target.calls[0]
    header = f"<|channel|>commentary to=functions.{call.name} <|constrain|>json"
    return f"{text}{header}<|message|>{call.arguments}<|call|>"


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
