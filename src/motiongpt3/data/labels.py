"""Labels of clips: a few words that say what happens."""

from __future__ import annotations

import re


def base_action(short: str) -> str:
    """The action without its style: "run forward energetically" -> "run forward"; walking turns are one action."""
    words = re.sub(r"\s+[a-z]+ly$", "", short.strip().lower())
    return re.sub(r"^walk(, turn| and turn| turning) (left|right)$", r"walk and turn \2", words)
