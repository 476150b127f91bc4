"""Escape the control tokens of chat templates, so that a tool's output cannot end the tool's turn."""

import re
from typing import Final

_CONTROL_TOKEN: Final = re.compile(
    r"""
    <(?=[|/｜tcseTS<]) (?=
        \| (?: /?[\w▁-]+\|>                                # <|im_end|>, <|eot_id|>, <|/tool|>: most families
             | (?:turn|channel|tool|tool_call|tool_response)> | "\|>  # Gemma 4: <|turn>, <|"|>, and below <turn|>
            )
      | /?(?: tool_response> | TOOL_RESPONSE> | ｜ )       # Qwen, Hermes, GLM; Nemotron; DeepSeek: <｜User｜>
      | /s>                                                # Llama 2, Mistral
      | </?SYS>>                                           # Llama 2
      | (?:turn|channel|tool|tool_call|tool_response)\|>
      | (?:start|end)_(?:of_turn|function_response)>       # Gemma; FunctionGemma
      | eos> | seed:[be]os> | SPECIAL_\d+>                 # Gemma; Seed-OSS; Nemotron
    )
  | \[(?=[/ITAS|e]) (?=
        /?(?:INST|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|AVAILABLE_TOOLS|SYSTEM_PROMPT)\]  # Mistral
      | \|(?:endofturn|user|assistant|system|tool)\|\]     # EXAONE
      | e~\[                                               # MiniMax: [e~[ and ]~b]
    )
  | \](?=~!?b[\[\]])
    """,
    re.VERBOSE,
)
"""The first character of a token that opens or ends a turn. Nothing here stands in HTML, C++ templates or shell.

The first lookahead of a branch is a shortcut: most tags of HTML fail there. An alternative reads a bounded number of
characters, or word characters only: the time is linear.
"""


def escape_control_tokens(text: str) -> str:
    """The text with an invisible character after the first of every control token: the same text, no token."""
    return _CONTROL_TOKEN.sub("\\g<0>\N{WORD JOINER}", text) if "<" in text or "[" in text or "]" in text else text
