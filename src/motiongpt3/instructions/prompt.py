"""Prompts: the only code that turns a user's words into what the text stream reads."""

from __future__ import annotations

import unicodedata
import warnings
from typing import Literal

from motiongpt3.errors import MotionGPT3Error

MAX_CHARACTERS = 1000
"""Longest prompt; the longest training caption has 150 characters."""

Style = Literal["chatml", "plain"]


def clean_prompt(text: str) -> str:
    """One sentence as the captions are written: single spaces, lower case, a full stop.

    Raises:
        MotionGPT3Error: the prompt is empty or longer than MAX_CHARACTERS.

    Warns:
        UserWarning: most letters are of another script than Latin.
    """
    if len(text) > MAX_CHARACTERS:
        raise MotionGPT3Error(f"the prompt has {len(text)} characters; at most {MAX_CHARACTERS} are read: shorten it")
    printable = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    words = " ".join(printable.split()).lower()
    if not any(c.isalnum() for c in words):
        state = "has no words" if words else "is empty"
        raise MotionGPT3Error(f"the prompt {state}: describe a motion, such as 'a person walks forward'")
    letters = [c for c in words if c.isalpha()]
    latin = sum(unicodedata.name(c, "").startswith("LATIN") for c in letters)
    if latin * 2 < len(letters):
        warnings.warn("the model was trained on English; this prompt is mostly in another script", stacklevel=3)
    return words if words[-1] in ".!?" else words + "."


def generation_prompt(caption: str, style: Style) -> str:
    """What stands before <start_of_motion> when a cleaned caption is to become a motion.

    chatml is the chat format of SmolLM2-Instruct; plain is for language models without one. The first token of a
    text is where such models park attention, so it is never a word of the caption.
    """
    if style == "chatml":
        return f"<|im_start|>user\n{caption}<|im_end|>\n<|im_start|>assistant\n"
    return f"\n{caption}\n"
