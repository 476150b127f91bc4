"""Make and train tiny-qwen3: Qwen3's architecture and chat template, a vocabulary of 4,096 of its own."""

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tests.rig.training.assemble_gpt_oss import fixed_embeddings
from tests.rig.training.conversation import PROSE, Message, Tool
from tests.rig.training.examples import Example, sample
from tests.rig.training.loop import Ids, Pupil, evaluate, train

CHAT_TEMPLATE = Path(__file__).with_name("qwen3_chat_template.jinja")
VOCABULARY_SIZE = 4096
HIDDEN_SIZE, LAYERS, HEAD_SIZE = 128, 3, 32
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
CONTRACTION_OR_WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
SPLIT = CONTRACTION_OR_WORD + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where to put the weights")
    parser.add_argument("--seconds", type=int, default=540)
    options = parser.parse_args()
    tokenizer = _tokenizer(random.Random(7))
    model = _model(tokenizer)
    pupil = Pupil(
        model=model,
        encode=lambda example, rng: _encode(tokenizer, example, rng),
        logits=lambda hidden, wanted: (model.lm_head(hidden), wanted),
        decode=tokenizer.decode,
        stop=frozenset({tokenizer.eos_token_id}),
    )
    train(pupil, options.seconds)
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.update(temperature=0.6, top_p=0.95, top_k=20, do_sample=True, eos_token_id=stops)
    tokenizer.save_pretrained(options.out)
    model.save_pretrained(options.out)
    evaluate(pupil)


def _tokenizer(rng: random.Random) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SPECIAL + MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(rng), trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in MARKS])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )
    wrapped.chat_template = CHAT_TEMPLATE.read_text()
    return wrapped


def _texts(rng: random.Random) -> Iterator[str]:
    """What the vocabulary is learnt from: the noise and the conversations."""
    yield from (PROSE[start : start + 2000] for start in range(0, len(PROSE), 2000))
    for example in (sample(rng, "mixed") for _ in range(1500)):
        for message in [*example.messages, example.target]:
            yield message.content
            yield message.reasoning
            yield from (_call_text(call.name, call.arguments) for call in message.calls)
        yield json.dumps([_tool(tool, rng) for tool in example.tools])


def _model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    heads = HIDDEN_SIZE // HEAD_SIZE
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=3 * HIDDEN_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=8192,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.04,
    )
    model = Qwen3ForCausalLM(config)
    # With fixed embeddings the body learns sooner to carry a city from the question to the answer.
    model.model.embed_tokens.weight.data.copy_(fixed_embeddings(len(tokenizer), HIDDEN_SIZE))
    model.model.embed_tokens.weight.requires_grad_(False)
    return model


def _encode(tokenizer: PreTrainedTokenizerFast, example: Example, rng: random.Random) -> tuple[Ids, Ids]:
    thinking = rng.random() < 0.75
    system = [] if example.system is None else [{"role": "system", "content": example.system}]
    prompt = tokenizer.apply_chat_template(
        [*system, *(_message(message, rng) for message in example.messages)],
        tools=[_tool(tool, rng) for tool in example.tools] or None,
        tokenize=False,
        add_generation_prompt=True,
        **({} if thinking else {"enable_thinking": False}),
    )
    target = _target_text(example.target, thinking=thinking)
    return tokenizer.encode(prompt, add_special_tokens=False), tokenizer.encode(target, add_special_tokens=False)


def _message(message: Message, rng: random.Random) -> dict[str, Any]:
    if message.role != "assistant":
        return {"role": message.role, "content": message.content}
    told: dict[str, Any] = {"role": "assistant", "content": message.content}
    if rng.random() < 0.6:  # clients replay the reasoning, or drop it
        told["reasoning_content"] = message.reasoning
    if message.calls:
        functions = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.calls]
        told["tool_calls"] = [{"type": "function", "function": function} for function in functions]
    return told


def _tool(tool: Tool, rng: random.Random) -> dict[str, Any]:
    # vLLM dumps pydantic models, so a tool may come with a null.
    strict = {"strict": rng.choice([None, False, True])} if rng.random() < 0.5 else {}
    return {"type": "function", "function": dataclasses.asdict(tool) | strict}


def _target_text(target: Message, *, thinking: bool) -> str:
    calls = [f"<tool_call>\n{_call_text(call.name, call.arguments)}\n</tool_call>" for call in target.calls]
    reasoning = f"<think>\n{target.reasoning}\n</think>\n\n" if thinking else ""
    return reasoning + "\n".join([*([target.content] if target.content or not calls else []), *calls]) + "<|im_end|>"


def _call_text(name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "arguments": {arguments}}}'


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
