"""A Hugging Face tokenizer with the real Harmony vocabulary, read back from the encoding that vLLM itself uses."""

from itertools import pairwise

from openai_harmony import HarmonyEncoding, HarmonyEncodingName, load_harmony_encoding
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 201_088
FIRST_SPECIAL = 199_998
NAMED = {
    199998: "<|startoftext|>",
    199999: "<|endoftext|>",
    200002: "<|return|>",
    200003: "<|constrain|>",
    200005: "<|channel|>",
    200006: "<|start|>",
    200007: "<|end|>",
    200008: "<|message|>",
    200012: "<|call|>",
    200018: "<|endofprompt|>",
}

# How o200k cuts text into words before it merges bytes.
WORD_WITH_LOWER_END = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
)
WORD_WITH_UPPER_START = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
)
NUMBERS_SIGNS_SPACES = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT = "|".join((WORD_WITH_LOWER_END, WORD_WITH_UPPER_START, NUMBERS_SIGNS_SPACES))

# vLLM renders gpt-oss prompts itself; a template is needed only where it asks whether there is one.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)

SAMPLES = (
    "hello world",
    " It's 12345 degrees\n\n  in Zürich!",
    '{"city": "Paris", "population": 2100000}',
    "naïve CamelCase snake_case 漢字かな 한국어 עברית العربية 👩‍👩‍👧 ½ \t\r\n  trailing  ",
    "def f(x):\n    return {'a': [1, 2.5e-3], \"b\": None}  # https://example.org/?q=1&r=%20\n",
    "<|start|>assistant<|channel|>final<|message|>x<|return|>",
    "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
)


def harmony_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer; an AssertionError if it disagrees with the encoding on any sample."""
    encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    ranks = {_token_bytes(encoding, rank): rank for rank in range(FIRST_SPECIAL)}
    spelling = {token: "".join(BYTE_CHARS[byte] for byte in token) for token in ranks}
    merges = [tuple(spelling[part] for part in last_merge(token, ranks)) for token in ranks if len(token) > 1]
    vocabulary = {spelling[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    words = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [NAMED.get(token_id, f"<|reserved_{token_id}|>") for token_id in range(FIRST_SPECIAL, VOCABULARY_SIZE)]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|return|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=131072,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    for sample in SAMPLES:
        ours, theirs = wrapped.encode(sample, add_special_tokens=False), encoding.encode(sample, allowed_special="all")
        assert ours == theirs, f"{sample!r}: the tokenizer says {ours}, the encoding {theirs}"
    return wrapped


def last_merge(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that byte-pair encoding joins last to make this one."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, VOCABULARY_SIZE) for left, right in pairwise(parts)]
        best = pairs.index(min(pairs))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def _token_bytes(encoding: HarmonyEncoding, rank: int) -> bytes:
    # Many tokens are pieces of a character; surrogateescape carries their bytes through text unchanged.
    return encoding.decode([rank], errors="surrogateescape").encode("utf-8", errors="surrogateescape")


def _byte_chars() -> dict[int, str]:
    """GPT-2's spelling of bytes: what prints stands for itself, the others are moved out of the way."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(moved)}


BYTE_CHARS = _byte_chars()
