"""The parser of a model's raw output, by the model's family."""

from typing import TYPE_CHECKING

from .._family import Family
from .._harmony.parser import HarmonyParser
from .pieces import ReplyParser
from .text_parser import TextParser

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding


def reply_parser(family: Family, encoding: "HarmonyEncoding | None", *, in_reasoning: bool, calls: bool) -> ReplyParser:
    """A parser at the start of a reply.

    `in_reasoning`: the prompt ends inside a `<think>` that the template has opened. `calls`: tools were offered, else
    markup of calls is text. Harmony is parsed from ids, with its encoding; every other family from text.
    """
    if family.rendering != "harmony":
        return TextParser(family, in_reasoning=in_reasoning, calls=calls)
    if encoding is None:
        raise ValueError("a Harmony reply cannot be parsed without its vocabulary")
    return HarmonyParser(encoding)
