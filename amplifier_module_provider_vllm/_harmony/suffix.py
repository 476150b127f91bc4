"""The token ids that follow a reply of gpt-oss: the messages after it, and the start of the next reply."""

from typing import TYPE_CHECKING, Final

from .._ask import Ask
from .messages import HarmonyMessage, harmony_messages

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

ENDS: Final = ("<|end|>", "<|call|>", "<|return|>")
"""The tokens with which a message of the model ends."""


def harmony_suffix(encoding: "HarmonyEncoding", ask: Ask, new: int, last: int) -> list[int]:
    """The ids of the last `new` items and of the next reply's start, behind a reply whose last id is `last`.

    A reply that was cut gets its end first.
    """
    ends = {_special(encoding, end)[0] for end in ENDS}
    ids = [] if last in ends else _special(encoding, ENDS[0])
    for message in harmony_messages(ask)[-new:]:
        ids += _message_ids(encoding, message)
    return ids + _special(encoding, "<|start|>assistant")


def _message_ids(encoding: "HarmonyEncoding", message: HarmonyMessage) -> list[int]:
    """Special tokens in the text count as text."""
    text = encoding.encode(message.text, disallowed_special=())
    return [*_special(encoding, f"<|start|>{message.header}<|message|>"), *text, *_special(encoding, ENDS[0])]


def _special(encoding: "HarmonyEncoding", text: str) -> list[int]:
    return encoding.encode(text, allowed_special="all")
