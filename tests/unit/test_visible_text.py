"""What is visible of a gpt-oss text does not depend on where the server cuts its deltas."""

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from amplifier_module_provider_vllm._visible_text import VisibleText

CONTROL_TOKEN = re.compile(r"<\|(start|end|message|channel|constrain|return|call|endoftext|reserved_[0-9]{6})\|>")
PARTS = st.sampled_from(
    [
        "<", "|", ">", "<|", "|>", "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>",
        "<|reserved_200903|>", "assistant", "commentary", " to=", " to", " t", "functions.f", " ", "json", "start",
        "end", "a" * 63, "b" * 127, "\n", ".", "é", "Par", "is", "P",
    ]
)  # fmt: skip
TEXTS = st.lists(PARTS, max_size=25).map("".join)
STOPS = st.lists(st.sampled_from(["Paris", "Par", "is", "aa", "\n", ".é", "<|"]), max_size=3)


@given(TEXTS, st.lists(st.integers(0, 60), max_size=12), STOPS)
@example("<|channel|>" + "a" * 64 + " to=" + "b" * 128 + " .", [9, 40, 64, 65, 66, 67, 68], [])
@example("PPPar", [1, 2, 3, 4], ["Paris", "Par"])
def test_streamed_and_whole_show_the_same(text: str, cuts: list[int], stop: list[str]) -> None:
    streamed = VisibleText(stop)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]

    shown = [streamed.push(text[start:end]) for start, end in pairwise(places)]

    assert "".join(shown) + streamed.end() == VisibleText(stop).of(text)
    assert "".join(streamed.raw) == text


@given(TEXTS, STOPS)
def test_no_stop_string_is_shown(text: str, stop: list[str]) -> None:
    shown = VisibleText(stop).of(text)

    assert [one for one in stop if one in shown] == []


@given(st.lists(st.one_of(st.from_regex(CONTROL_TOKEN, fullmatch=True), st.text(alphabet="ab \n.=")), max_size=25))
def test_no_control_token_is_shown(parts: list[str]) -> None:
    shown = VisibleText().of("".join(parts))

    assert CONTROL_TOKEN.search(shown) is None


@given(st.text(alphabet="ab<|> \n"))
def test_a_text_without_control_tokens_is_shown_unchanged(text: str) -> None:
    assert VisibleText().of(text) == text
